// The API of a 7stamp connectors host: where it is, and what its refusals are to Zapier.

'use strict';

/** The API's address, from what the owner typed: the console's address, with or without a slash at its end. */
const baseOf = (bundle) => `${String(bundle.authData.address || '').trim().replace(/\/+$/, '')}/api/v1`;

/** Put the token on every request of ours, and on none to anybody else. */
const addToken = (request, z, bundle) => {
  if (bundle.authData && bundle.authData.token && request.url.startsWith(`${baseOf(bundle)}/`)) {
    request.headers.Authorization = `Bearer ${bundle.authData.token}`;
  }
  return request;
};

/** Turn a refusal (RFC 9457) into the error that Zapier shows, with its sentence for people. */
const raiseRefusal = (response, z) => {
  if (response.status < 400) {
    return response;
  }
  const problem = response.data && typeof response.data === 'object' ? response.data : {};
  const detail = problem.detail || `The host answered ${response.status}.`;
  if (response.status === 401) {
    throw new z.errors.RefreshAuthError(detail);
  }
  if (response.status === 429 || response.status === 503) {
    const seconds = Number.parseInt(response.getHeader('retry-after') || '60', 10);
    throw new z.errors.ThrottledError(detail, seconds);
  }
  throw new z.errors.Error(detail, problem.code || 'error', response.status);
};

/** Make a call and return its body. `key` makes a call that creates something safe to repeat. */
const call = async (z, bundle, method, path, { body, params, key } = {}) => {
  const response = await z.request({
    method,
    url: `${baseOf(bundle)}${path}`,
    body,
    params,
    headers: key ? { 'Idempotency-Key': key } : {},
  });
  return response.data;
};

/** Return an object without the fields that were left empty. */
const withoutEmpty = (fields) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== ''));

module.exports = { addToken, call, raiseRefusal, withoutEmpty };
