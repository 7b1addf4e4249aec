"""razorpay-python: one order. The API has no idempotency key for it; `receipt` is what names it."""

import sys

import razorpay

from told import order, tell

base, buy = order()
client = razorpay.Client(auth=("rzp_test_practice", "secret"), base_url=base)
if buy.get("retries"):
    client.enable_retry(True)
# The SDK prints its troubles to where the answer belongs.
answers, sys.stdout = sys.stdout, sys.stderr


def create():
    try:
        return client.order.create({"amount": buy["amount"], "currency": "INR", "receipt": buy["reference"]})
    finally:
        sys.stdout = answers


def told(made):
    return {"id": made["id"], "status": made["status"], "reference": made["receipt"]}


tell(create, told, lambda error: {})
