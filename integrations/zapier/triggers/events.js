// One trigger for each event, all by REST hook: subscribed when a Zap is switched on, ended when it is switched off.

'use strict';

const { call, withoutEmpty } = require('../lib/api');

const EVENTS = [
  ['card_issued', 'Card Issued', 'a customer got a card'],
  ['card_saved', 'Card Saved', 'a card was saved to a wallet'],
  ['card_opened', 'Card Opened', 'a customer looked at their card'],
  ['stamp_added', 'Stamps Added', 'a card got stamps'],
  ['goal_reached', 'Goal Reached', 'a card is full'],
  ['reward_issued', 'Reward Issued', 'a customer earned a reward'],
  ['voucher_issued', 'Voucher Issued', 'a customer got a voucher'],
  ['voucher_redeemed', 'Voucher Redeemed', 'a voucher was used'],
  ['voucher_expired', 'Voucher Expired', 'a voucher ran out'],
  ['lottery_played', 'Lottery Played', 'a customer played the lottery'],
  ['birthday_reached', 'Birthday Reached', 'it is a customer’s birthday'],
  ['inactivity_trigger', 'Customer Stays Away', 'a customer was not here for long'],
  ['campaign_sent', 'Campaign Sent', 'a campaign went out by push, email or messengers'],
  ['sale.ingested', 'Receipt Arrived', 'the till told of a receipt, or of a change to one'],
  ['operation.applied', 'Stamps Are on the Card', 'stamps of a receipt are on a card, or a voucher of one is used'],
  ['operation.held', 'Stamps Wait', 'stamps of a receipt wait, such as for a card'],
  ['operation.rejected', 'Stamps Were Refused', '7stamp took no stamps for a receipt'],
  ['connection.health_changed', 'Till Works or Fails', 'a till stopped answering, or works again'],
  ['reconciliation.differs', 'Till and Cards Differ', 'the comparison of a night found something'],
];

const CHANNEL = {
  key: 'channel',
  label: 'Channel',
  type: 'string',
  choices: { push: 'Push', email: 'Email', messengers: 'Messengers' },
  helpText: 'Only campaigns of this channel; all of them if you leave it empty.',
};
const INPUT = [
  {
    key: 'personal',
    label: 'With Phones and Emails',
    type: 'boolean',
    default: 'no',
    helpText: 'Without this, no event names a customer.',
  },
  {
    key: 'filter',
    label: 'Only If',
    type: 'string',
    helpText: "A condition on the event, such as `data.card.stamps=='8'`. Leave it empty for all of them.",
  },
];

const filterOf = ({ channel, filter }) =>
  [channel ? `data.channel=='${channel}'` : '', filter ? `(${filter})` : ''].filter(Boolean).join(' && ');

const subscribe = (event) => async (z, bundle) => {
  const input = bundle.inputData;
  const body = withoutEmpty({
    url: bundle.targetUrl,
    events: [event],
    title: 'Zapier',
    filter: filterOf(input),
    personal: input.personal === true || input.personal === 'true',
  });
  // only the id is needed again: the secret that proves events is not kept where it is not used
  const { id } = await call(z, bundle, 'POST', '/subscriptions', { body });
  return { id };
};

const unsubscribe = (z, bundle) => call(z, bundle, 'DELETE', `/subscriptions/${bundle.subscribeData.id}`);

const triggerOf = ([event, label, happened]) => ({
  key: event.replace('.', '_'),
  noun: label,
  display: { label, description: `Triggers when ${happened}.` },
  operation: {
    type: 'hook',
    inputFields: event === 'campaign_sent' ? [CHANNEL, ...INPUT] : INPUT,
    performSubscribe: subscribe(event),
    performUnsubscribe: unsubscribe,
    // the body as it was posted: `id` is the same when an event comes twice
    perform: (z, bundle) => [bundle.cleanedRequest],
    performList: (z, bundle) => call(z, bundle, 'GET', `/samples/${event}`),
    sample: {
      id: 'evt_1a2b3c',
      type: event,
      timestamp: '2026-11-26T09:12:00Z',
      business: 'b_1',
      data: {},
    },
  },
});

module.exports = Object.fromEntries(EVENTS.map(triggerOf).map((trigger) => [trigger.key, trigger]));
