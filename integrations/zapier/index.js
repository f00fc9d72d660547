// 7stamp in Zapier, as its platform's command line takes it.

'use strict';

const { version } = require('./package.json');
const { version: platformVersion } = require('zapier-platform-core');

const authentication = require('./authentication');
const creates = require('./creates');
const { addToken, raiseRefusal } = require('./lib/api');
const searches = require('./searches');
const events = require('./triggers/events');
const tillList = require('./triggers/till_list');

module.exports = {
  version,
  platformVersion,
  authentication,
  // refusals are turned into sentences below, not into Zapier's own words for a status
  flags: { skipThrowForStatus: true },
  beforeRequest: [addToken],
  afterResponse: [raiseRefusal],
  triggers: { ...events, [tillList.key]: tillList },
  searches,
  creates,
};
