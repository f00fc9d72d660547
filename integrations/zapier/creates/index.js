// What a Zap can do: stamps through a receipt, a card, a voucher issued and a voucher redeemed.

'use strict';

const { createHash } = require('node:crypto');

const { call, withoutEmpty } = require('../lib/api');

const PHONE = { key: 'phone', label: 'Phone', type: 'string', helpText: 'With its country, as +34600111222.' };
const EMAIL = { key: 'email', label: 'Email', type: 'string' };

// Under the same key nothing is done twice, however often a Zap runs.
// Hashed: a header takes neither every letter nor every length.
const keyOf = (bundle, what) =>
  bundle.inputData.once
    ? createHash('sha256').update(`${what}:${bundle.inputData.once}`).digest('hex')
    : undefined;

const ONCE = {
  key: 'once',
  label: 'Once For',
  type: 'string',
  helpText: 'Something that this is done for once, such as the id of the order: a Zap that runs again does nothing.',
};

const addStamps = {
  key: 'add_stamps',
  noun: 'Receipt',
  display: {
    label: 'Add Stamps for a Receipt',
    description: 'Reports a receipt of a shop without a till here: its stamps are given by your rule, once.',
  },
  operation: {
    inputFields: [
      { key: 'connection', label: 'Till', required: true, type: 'string', dynamic: 'till_list.id.title' },
      {
        key: 'receipt',
        label: 'Receipt',
        required: true,
        type: 'string',
        helpText: 'Its number. The same number again changes nothing, or corrects the receipt.',
      },
      { key: 'paid', label: 'Paid', required: true, type: 'string', helpText: 'Such as 12.50.' },
      { key: 'refunded', label: 'Refunded', type: 'string', helpText: 'What was given back of it until now.' },
      {
        key: 'closed_at',
        label: 'Closed At',
        required: true,
        type: 'datetime',
        helpText: 'When the order was paid, as the shop says it: a Zap that runs again then changes nothing.',
      },
      PHONE,
      EMAIL,
    ],
    perform: (z, bundle) => {
      const { phone, email, closed_at: closedAt, ...sale } = bundle.inputData;
      const customer = withoutEmpty({ phone, email });
      const body = withoutEmpty({
        ...sale,
        closed_at: closedAt,
        customer: Object.keys(customer).length ? customer : undefined,
      });
      return call(z, bundle, 'POST', '/sales', { body });
    },
    sample: { receipt: '330661', outcome: 'stored' },
  },
};

const issueCard = {
  key: 'issue_card',
  noun: 'Card',
  display: { label: 'Issue a Card', description: 'Gives a customer a card; who has one gets the same again.' },
  operation: {
    inputFields: [PHONE, EMAIL],
    perform: (z, bundle) => {
      const { phone, email } = bundle.inputData;
      return call(z, bundle, 'POST', '/cards', { body: withoutEmpty({ phone, email }) });
    },
    sample: { id: 'card_1', number: '123456', active: true, stamps: 0, goal: 8, save_url: 'https://wallet.invalid/1' },
  },
};

const issueVoucher = {
  key: 'issue_voucher',
  noun: 'Voucher',
  display: { label: 'Issue a Voucher', description: 'Issues a voucher for a card, or for whoever has its code.' },
  operation: {
    inputFields: [
      { key: 'title', label: 'Title', type: 'string', helpText: 'Such as “A free coffee”; or name a template.' },
      { key: 'template_id', label: 'Template', type: 'string', helpText: 'The id of a template of 7stamp.' },
      { key: 'description', label: 'Description', type: 'text' },
      { key: 'card_id', label: 'Card', type: 'string', helpText: 'The id of the card that it is for.' },
      { key: 'redeem_code', label: 'Redeem Code', type: 'string', helpText: 'One is made if you leave it empty.' },
      { key: 'validity', label: 'Validity', type: 'string' },
      ONCE,
    ],
    perform: (z, bundle) => {
      const { once: _once, ...voucher } = bundle.inputData;
      return call(z, bundle, 'POST', '/vouchers', { body: withoutEmpty(voucher), key: keyOf(bundle, 'issue') });
    },
    sample: { redeem_code: 'F7KQ4-WM9XP', outcome: 'done' },
  },
};

const redeemVoucher = {
  key: 'redeem_voucher',
  noun: 'Voucher',
  display: { label: 'Redeem a Voucher', description: 'Uses a voucher up; one that was used already is refused.' },
  operation: {
    inputFields: [{ key: 'redeem_code', label: 'Redeem Code', required: true, type: 'string' }, ONCE],
    perform: (z, bundle) =>
      call(z, bundle, 'POST', `/vouchers/${encodeURIComponent(bundle.inputData.redeem_code)}/redeem`, {
        key: keyOf(bundle, 'redeem'),
      }),
    sample: { redeem_code: 'F7KQ4-WM9XP', outcome: 'done' },
  },
};

module.exports = Object.fromEntries(
  [addStamps, issueCard, issueVoucher, redeemVoucher].map((create) => [create.key, create]),
);
