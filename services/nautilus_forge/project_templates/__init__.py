"""The built-in project templates (`template_name` of `POST /projects`)."""
