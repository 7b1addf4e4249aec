// stripe-node: one payment intent.

const Stripe = require('stripe');
const { base, buy, tell } = require('./told.js');

const stripe = new Stripe('sk_test_practice', {
  host: base.hostname,
  port: base.port,
  protocol: 'http',
  ...('retries' in buy && { maxNetworkRetries: buy.retries }),
});

const create = () =>
  stripe.paymentIntents.create(
    {
      amount: buy.amount,
      currency: 'eur',
      confirm: true,
      payment_method: buy.card ?? 'pm_card_visa',
      metadata: { order: buy.reference },
    },
    buy.key ? { idempotencyKey: buy.key } : {},
  );

tell(
  create,
  (made) => ({ id: made.id, status: made.status, reference: made.metadata.order, headers: made.lastResponse.headers }),
  (error) => ({ status: error.statusCode, code: error.code, message: error.message, headers: error.headers }),
);
