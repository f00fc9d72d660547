// The tills that receipts can be reported to, for a list to choose from; no trigger of its own.

'use strict';

const { call } = require('../lib/api');

module.exports = {
  key: 'till_list',
  noun: 'Till',
  display: { label: 'Tills', description: 'Lists the tills that receipts can be reported to.', hidden: true },
  operation: {
    perform: async (z, bundle) => {
      const { items } = await call(z, bundle, 'GET', '/connections');
      return items.filter((one) => one.connector === 'webhook').map(({ id, title }) => ({ id, title }));
    },
    sample: { id: 'webhook-1a2b3c', title: 'Any till' },
  },
};
