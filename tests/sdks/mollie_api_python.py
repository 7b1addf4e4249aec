"""mollie-api-python, the hand-written one: one payment. It never sends again by itself."""

from mollie.api.client import Client

from told import order, tell

base, buy = order()
client = Client(api_endpoint=base)
client.set_api_key("test_practice")


def create():
    return client.payments.create(
        {
            "amount": {"currency": "EUR", "value": f"{buy['amount'] / 100:.2f}"},
            "description": buy["reference"],
            "redirectUrl": "https://shop.example/thanks",
            "metadata": {"order": buy["reference"]},
        },
        idempotency_key=buy.get("key", ""),
    )


def told(made):
    return {"id": made.id, "status": made.status, "reference": made.description}


def raised(error):
    return {"status": getattr(error, "status", None), "key": getattr(error, "idempotency_key", None)}


tell(create, told, raised)
