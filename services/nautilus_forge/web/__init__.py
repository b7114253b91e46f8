"""The few pages that the forge has of its own: sign-in, consent, and the session behind them."""
