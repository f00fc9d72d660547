// Against a host that runs: ADDRESS and TOKEN are its, TILL is a till that receipts can be reported to.

'use strict';

const assert = require('node:assert/strict');
const http = require('node:http');
const { once } = require('node:events');
const { before, test } = require('node:test');

const zapier = require('zapier-platform-core');

const App = require('../index');

const { ADDRESS, TOKEN, TILL } = process.env;
const authData = { address: `${ADDRESS}/`, token: TOKEN };
const run = zapier.createAppTester(App);
const phone = '+34600111222';

before(() => assert.ok(ADDRESS && TOKEN && TILL, 'set ADDRESS, TOKEN and TILL, or run the tests of the whole project'));

/** Listen as Zapier does, until a test ends, and give each body that is posted. */
const listen = async (context) => {
  const bodies = [];
  const server = http.createServer((request, response) => {
    let text = '';
    request.on('data', (part) => (text += part));
    request.on('end', () => {
      bodies.push(JSON.parse(text));
      response.end('{}');
      server.emit('body');
    });
  });
  server.listen(0, '127.0.0.1');
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, 'listening');
  return { bodies, server, url: `http://127.0.0.1:${server.address().port}/hooks/standard/1/` };
};

test('the definition is one that Zapier takes', async () => {
  const handler = zapier.createLambdaHandler
    ? zapier.createLambdaHandler(App)
    : require('zapier-platform-core/src/tools/create-lambda-handler')(App);
  const { results } = await handler({ command: 'validate' });
  assert.deepEqual(results, []);
});

test('an account is joined by its address and token, and a wrong token is said to be one', async () => {
  const me = await run(App.authentication.test, { authData });
  assert.deepEqual([...me.scopes].sort(), ['act', 'read', 'sell', 'subscribe']);
  await assert.rejects(run(App.authentication.test, { authData: { ...authData, token: '7con_wrong' } }), /token/);
});

test('every trigger has a sample with an id', async () => {
  for (const trigger of Object.values(App.triggers)) {
    if (trigger.operation.type === 'hook') {
      const samples = await run(trigger.operation.performList, { authData, inputData: {} });
      assert.ok(samples.length > 0 && samples[0].id, trigger.key);
    }
  }
});

test('a receipt that is reported comes back as an event, and ends with the Zap', async (context) => {
  const { bodies, server, url } = await listen(context);
  const { operation } = App.triggers.operation_applied;
  const bundle = { authData, inputData: { personal: true }, targetUrl: url };
  const subscribeData = await run(operation.performSubscribe, bundle);
  assert.deepEqual(Object.keys(subscribeData), ['id'], 'a secret is kept where it is not needed');
  const tills = await run(App.triggers.till_list.operation.perform, { authData, inputData: {} });
  assert.deepEqual(tills.map(({ id }) => id), [TILL]);
  const sale = { connection: TILL, receipt: 'web-1', paid: '25.00', phone, closed_at: new Date().toISOString() };
  const taken = await run(App.creates.add_stamps.operation.perform, { authData, inputData: sale });
  assert.equal(taken.outcome, 'stored');
  if (!bodies.length) {
    await once(server, 'body');
  }
  const [event] = await run(operation.perform, { ...bundle, cleanedRequest: bodies[0] });
  assert.equal(event.type, 'operation.applied');
  assert.equal(event.data.receipt, 'web-1');
  const again = await run(App.creates.add_stamps.operation.perform, { authData, inputData: sale });
  assert.equal(again.outcome, 'unchanged');
  await run(operation.performUnsubscribe, { ...bundle, subscribeData });
  const listed = await fetch(`${ADDRESS}/api/v1/subscriptions`, { headers: { Authorization: `Bearer ${TOKEN}` } });
  assert.deepEqual((await listed.json()).items, []);
});

test('a campaign can be chosen by its channel', async (context) => {
  const { url } = await listen(context);
  const { operation } = App.triggers.campaign_sent;
  const bundle = { authData, inputData: { channel: 'messengers', filter: "data.card.stamps=='8'" }, targetUrl: url };
  const subscribeData = await run(operation.performSubscribe, bundle);
  const made = await fetch(`${ADDRESS}/api/v1/subscriptions/${subscribeData.id}`, {
    headers: { Authorization: `Bearer ${TOKEN}` },
  });
  assert.equal((await made.json()).filter, "data.channel=='messengers' && (data.card.stamps=='8')");
  await run(operation.performUnsubscribe, { ...bundle, subscribeData });
});

test('a card is issued once, and found', async () => {
  const issue = App.creates.issue_card.operation.perform;
  const card = await run(issue, { authData, inputData: { phone } });
  assert.equal((await run(issue, { authData, inputData: { phone } })).id, card.id);
  const find = App.searches.find_card.operation.perform;
  const [found] = await run(find, { authData, inputData: { number: card.number } });
  assert.equal(found.id, card.id);
  assert.deepEqual(await run(find, { authData, inputData: { email: 'nobody@cafe.example' } }), []);
  await assert.rejects(run(issue, { authData, inputData: { phone: '12' } }), /phone number/);
});

test('a voucher is issued for one birthday once, and used once', async () => {
  const issue = App.creates.issue_voucher.operation.perform;
  const inputData = { title: 'A cake', once: 'День народження Ганни 🎂' };
  const voucher = await run(issue, { authData, inputData });
  assert.deepEqual(await run(issue, { authData, inputData }), voucher);
  const redeem = App.creates.redeem_voucher.operation.perform;
  const used = { redeem_code: voucher.redeem_code };
  assert.equal((await run(redeem, { authData, inputData: used })).outcome, 'done');
  await assert.rejects(run(redeem, { authData, inputData: used }), /redeemed already/);
  const [shown] = await run(App.searches.find_voucher.operation.perform, { authData, inputData: used });
  assert.equal(shown.status, 'redeemed');
  const nobody = { redeem_code: 'NO-SUCH-CODE' };
  assert.deepEqual(await run(App.searches.find_voucher.operation.perform, { authData, inputData: nobody }), []);
});
