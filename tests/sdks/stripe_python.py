"""stripe-python: one payment intent, in the style of the module or of StripeClient."""

import stripe

from told import order, tell

base, buy = order()
intent = {
    "amount": buy["amount"],
    "currency": "eur",
    "confirm": True,
    "payment_method": buy.get("card", "pm_card_visa"),
    "metadata": {"order": buy["reference"]},
}
key = {"idempotency_key": buy["key"]} if "key" in buy else {}


def by_module():
    stripe.api_key = "sk_test_practice"
    stripe.api_base = base
    return stripe.PaymentIntent.create(**intent, **key)


def by_client():
    client = stripe.StripeClient("sk_test_practice", base_addresses={"api": base})
    return client.v1.payment_intents.create(intent, key)


def told(made):
    return {
        "id": made.id,
        "status": made.status,
        "reference": made.metadata["order"],
        "headers": dict(made.last_response.headers),
    }


def raised(error):
    code = error.error.code if error.error else None
    return {"status": error.http_status, "code": code, "message": error.user_message, "headers": dict(error.headers)}


tell({"module": by_module, "client": by_client}[buy["style"]], told, raised)
