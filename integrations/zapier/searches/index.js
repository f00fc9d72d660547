// What a Zap can look up: a customer's card, and a voucher.

'use strict';

const { call, withoutEmpty } = require('../lib/api');

/** Return what was found as a list: Zapier takes an empty one for "nothing found". */
const found = async (work) => {
  try {
    return [await work()];
  } catch (error) {
    if (error.message.includes('not_found')) {
      return [];
    }
    throw error;
  }
};

const findCard = {
  key: 'find_card',
  noun: 'Card',
  display: { label: 'Find a Card', description: 'Finds a customer’s card by phone, email or the six digits on it.' },
  operation: {
    inputFields: [
      { key: 'phone', label: 'Phone', type: 'string' },
      { key: 'email', label: 'Email', type: 'string' },
      { key: 'number', label: 'Card Number', type: 'string' },
    ],
    perform: (z, bundle) => {
      const { phone, email, number } = bundle.inputData;
      return found(() => call(z, bundle, 'GET', '/cards', { params: withoutEmpty({ phone, email, number }) }));
    },
    sample: { id: 'card_1', number: '123456', active: true, stamps: 3, goal: 8, save_url: 'https://wallet.invalid/1' },
  },
};

const findVoucher = {
  key: 'find_voucher',
  noun: 'Voucher',
  display: { label: 'Find a Voucher', description: 'Shows a voucher by its redeem code: is it good, or was it used?' },
  operation: {
    inputFields: [{ key: 'redeem_code', label: 'Redeem Code', required: true, type: 'string' }],
    perform: (z, bundle) =>
      found(async () => {
        const voucher = await call(z, bundle, 'GET', `/vouchers/${encodeURIComponent(bundle.inputData.redeem_code)}`);
        return { id: voucher.redeem_code, ...voucher };
      }),
    sample: { id: 'F7KQ4-WM9XP', redeem_code: 'F7KQ4-WM9XP', title: 'A free coffee', status: 'active' },
  },
};

module.exports = Object.fromEntries([findCard, findVoucher].map((search) => [search.key, search]));
