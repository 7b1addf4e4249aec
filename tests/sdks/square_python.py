"""squareup: one payment. Its key is in the body, and the SDK sends the same one again."""

from square import Square

from told import order, tell

base, buy = order()
client = Square(token="practice", base_url=base)


def create():
    return client.payments.create(
        source_id=buy.get("card", "cnon:card-nonce-ok"),
        idempotency_key=buy["key"],
        amount_money={"amount": buy["amount"], "currency": "EUR"},
        reference_id=buy["reference"],
        location_id="L1",
    )


def told(made):
    payment = made.payment
    return {"id": payment.id, "status": payment.status, "reference": payment.reference_id}


def raised(error):
    if not hasattr(error, "status_code"):
        return {}
    first = error.errors[0]
    return {
        "status": error.status_code,
        "code": first.code,
        "category": first.category,
        "message": first.detail,
        "headers": error.headers,
    }


tell(create, told, raised)
