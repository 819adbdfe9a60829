"""Commands of the command line that concern the vault as a whole."""

from __future__ import annotations

import click

from generador.keys import reseal
from pulsaga import SettingError, Settings, old_file, open_database


@click.group(epilog="Example: protools vault rotate")
def vault() -> None:
    """Look after the key that every secret is sealed under."""


@vault.command("rotate", epilog="Example: protools vault rotate")
def rotate() -> None:
    """Seal every secret anew under the next VAULT_KEY, on a running system; may be stopped and begun again.

    The next key is VAULT_KEY, the one before it VAULT_KEY_OLD. Where embedded mode keeps the key in the home folder,
    the next one is made.
    """
    settings = Settings.read()
    write = open_database(settings, "generador", "write", "owner")
    write.connect().close()  # no key is made where there is no vault
    old = _begin(settings)
    moved = reseal(write, settings.keys("VAULT_KEY"))
    write.dispose()
    click.echo(f"sealed anew: {moved}")
    if moved:
        click.echo("start every process of generador with the new key, then run this again until it finds nothing")
    else:
        click.echo(f"nothing lies under the old key any more: {old} can be dropped")


def _begin(settings: Settings) -> str:
    """Make the next key where embedded mode keeps it, once; return how the old one is called."""
    if settings.given_key("VAULT_KEY_OLD"):
        return "VAULT_KEY_OLD"
    if settings.given_key("VAULT_KEY") or not settings.embedded:
        raise SettingError("VAULT_KEY_OLD", "is missing: the key to rotate from; VAULT_KEY is the one to rotate to")
    file = settings.key_file("VAULT_KEY")
    if not old_file(file).exists():
        settings.key("VAULT_KEY")  # there may have been none yet
        file.rename(old_file(file))
    return str(old_file(file))
