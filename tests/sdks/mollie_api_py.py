"""mollie-api-py, Mollie's generated SDK: one payment. Unless it is given a key, every retry has a new one."""

from mollie import ClientSDK, models

from told import order, tell

base, buy = order()


def create():
    with ClientSDK(server_url=base, security=models.Security(api_key="test_practice")) as client:
        return client.payments.create(
            payment_request={
                "amount": {"currency": "EUR", "value": f"{buy['amount'] / 100:.2f}"},
                "description": buy["reference"],
                "redirect_url": "https://shop.example/thanks",
                "metadata": {"order": buy["reference"]},
            },
            **({"idempotency_key": buy["key"]} if "key" in buy else {}),
        )


def told(made):
    return {"id": made.id, "status": made.status, "reference": made.description}


def raised(error):
    if not hasattr(error, "status_code"):
        return {}
    return {"status": error.status_code, "body": error.body, "headers": dict(error.headers)}


tell(create, told, raised)
