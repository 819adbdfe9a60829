"""Run Protools: command line, supervisor, local servers. The one package that may import every service."""
