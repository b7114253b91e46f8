from nautilus.cli.main import main

main()
