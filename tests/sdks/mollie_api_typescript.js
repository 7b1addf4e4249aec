// mollie-api-typescript, Mollie's generated SDK: one payment. All its retries have one key.

const { Client } = require('mollie-api-typescript');
const { base, buy, tell } = require('./told.js');

const client = new Client({ serverURL: base.origin, security: { apiKey: 'test_practice' } });

const create = () =>
  client.payments.create({
    ...(buy.key && { idempotencyKey: buy.key }),
    paymentRequest: {
      amount: { currency: 'EUR', value: (buy.amount / 100).toFixed(2) },
      description: buy.reference,
      redirectUrl: 'https://shop.example/thanks',
      metadata: { order: buy.reference },
    },
  });

tell(
  create,
  (made) => ({ id: made.id, status: made.status, reference: made.description }),
  (error) => ({ status: error.statusCode, body: error.body }),
);
