"""The workflow `register-product`: one step. After it it is there."""

from __future__ import annotations

from productos.messages import RegisterProduct
from protools_saga import messages
from pulsaga import Access, Saga, Step, minutes

KEEPERS = ("operator", "admin", "productos:write")
"""Who may change what is sold."""

REGISTER_PRODUCT = Saga[messages.RegisterProduct](
    name="register-product",
    starts=messages.RegisterProduct,
    data=messages.RegisterProduct,
    subject=lambda product: product.nombre,
    access=Access(start=KEEPERS, subject="nombre"),
    steps=[
        Step(lambda product: RegisterProduct(product.nombre, product.stock), pivot=True, deadline=minutes(15)),
    ],
)
