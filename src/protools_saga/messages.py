"""The commands that start the workflows of this system; the command's id is the saga's id."""

from __future__ import annotations

from dataclasses import dataclass

from ordenes.messages import Line
from pulsaga import command


@command("protools_saga.issue-password")
@dataclass(frozen=True)
class IssuePassword:
    """Ask for a password to be issued for a user and mailed."""

    username: str
    email: str


@command("protools_saga.rotate-password")
@dataclass(frozen=True)
class RotatePassword:
    """Ask for a user's valid password to be replaced, and the next one mailed."""

    username: str
    email: str


@command("protools_saga.place-order")
@dataclass(frozen=True)
class PlaceOrder:
    """Ask for products to be brought to an address; the order bears the saga's id."""

    user_id: str
    lineas: tuple[Line, ...]
    direccion_entrega: str


@command("protools_saga.deliver-order")
@dataclass(frozen=True)
class DeliverOrder:
    """Tell that a driver has handed an order over."""

    id_orden: str


@command("protools_saga.register-product")
@dataclass(frozen=True)
class RegisterProduct:
    """Ask for a new product; it bears the saga's id."""

    nombre: str
    stock: int


@command("protools_saga.restock-product")
@dataclass(frozen=True)
class RestockProduct:
    """Ask for so much of a product to be in stock."""

    id_producto: str
    stock: int


@command("protools_saga.remove-product")
@dataclass(frozen=True)
class RemoveProduct:
    """Ask for a product to be taken off the list."""

    id_producto: str


@command("protools_saga.register-driver")
@dataclass(frozen=True)
class RegisterDriver:
    """Ask for a new driver, who bears the saga's id."""

    nombre: str


@command("protools_saga.change-email")
@dataclass(frozen=True)
class ChangeEmail:
    """Ask for another address of a user, which must be confirmed there."""

    user_id: str
    email: str


@command("protools_saga.confirm-email")
@dataclass(frozen=True)
class ConfirmEmail:
    """Tell that mail reaches the new address: sent by whoever bears the token that was mailed there."""


@command("protools_saga.take-order")
@dataclass(frozen=True)
class TakeOrder:
    """Ask for something of a price; the order bears the saga's id."""

    user_id: str
    price: int
