"""The workflow `remove-product`: one step. After it it is off the list, or refused."""

from __future__ import annotations

from productos.messages import RemoveProduct
from protools_saga import messages
from protools_saga.register_product import KEEPERS
from pulsaga import Access, Saga, Step, minutes

REMOVE_PRODUCT = Saga[messages.RemoveProduct](
    name="remove-product",
    starts=messages.RemoveProduct,
    data=messages.RemoveProduct,
    subject=lambda product: product.id_producto,
    access=Access(start=KEEPERS, subject="id_producto"),
    steps=[
        Step(lambda product: RemoveProduct(product.id_producto), pivot=True, deadline=minutes(15)),
    ],
)
