"""What tests and benches need to run a rendered gateway: stand-ins for the services, and the programs themselves."""
