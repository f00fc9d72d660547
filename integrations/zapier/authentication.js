// How an account is joined: the console's address, and a token made there.

'use strict';

const { call } = require('./lib/api');

module.exports = {
  type: 'custom',
  fields: [
    {
      key: 'address',
      label: 'Address of your console',
      helpText: 'As it stands in your browser when you look at your till, such as `https://till.example.com`.',
      required: true,
      type: 'string',
    },
    {
      key: 'token',
      label: 'Token',
      helpText:
        'In the console: your till, *Settings*, *API tokens*. Tick *read* and *subscribe* for triggers, *act* for ' +
        'cards and vouchers, *sell* for stamps.',
      required: true,
      type: 'password',
    },
  ],
  test: (z, bundle) => call(z, bundle, 'GET', '/me'),
  connectionLabel: '{{title}} ({{business}})',
};
