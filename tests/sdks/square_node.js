// square: one payment. Its key is in the body, and the SDK sends the same one again.

const { SquareClient } = require('square');
const { base, buy, tell } = require('./told.js');

const client = new SquareClient({ token: 'practice', baseUrl: base.origin });

const create = () =>
  client.payments.create({
    sourceId: buy.card ?? 'cnon:card-nonce-ok',
    idempotencyKey: buy.key,
    amountMoney: { amount: BigInt(buy.amount), currency: 'EUR' },
    referenceId: buy.reference,
    locationId: 'L1',
  });

tell(
  create,
  ({ payment }) => ({ id: payment.id, status: payment.status, reference: payment.referenceId }),
  (error) => ({
    status: error.statusCode,
    code: error.errors?.[0]?.code,
    category: error.errors?.[0]?.category,
    detail: error.errors?.[0]?.detail,
  }),
);
