"""The workflow `restock-product`: one step. After it there is another stock of it, or there is no such product."""

from __future__ import annotations

from productos.messages import RestockProduct
from protools_saga import messages
from protools_saga.register_product import KEEPERS
from pulsaga import Access, Saga, Step, minutes

RESTOCK_PRODUCT = Saga[messages.RestockProduct](
    name="restock-product",
    starts=messages.RestockProduct,
    data=messages.RestockProduct,
    subject=lambda product: product.id_producto,
    access=Access(start=KEEPERS, subject="id_producto"),
    steps=[
        Step(lambda product: RestockProduct(product.id_producto, product.stock), pivot=True, deadline=minutes(15)),
    ],
)
