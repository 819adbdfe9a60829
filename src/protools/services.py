"""List the services that this system is made of, in the order in which they start."""

SERVICES: tuple[str, ...] = ("generador", "correo", "protools_saga", "bff")
