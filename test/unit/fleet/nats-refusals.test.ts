/** What a NATS connection fails with, and which setting is named for it. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { refusalOf } from '../../../src/fleet/nats-refusals.ts';

const withCode = (message: string, code: string): Error => Object.assign(new Error(message), { code });

test('a connection that is reset in the middle of TLS may be a certificate that is refused', () => {
  const reset = withCode('read ECONNRESET', 'ECONNRESET');
  const text = refusalOf(reset, { tls: true, credentials: false });
  assert.match(
    text,
    /perhaps because it refuses our certificate, or wants one: RINGSIDE_NATS_CERT and RINGSIDE_NATS_KEY \(read ECONN/,
  );
  // without TLS nothing is known of it
  assert.equal(refusalOf(reset, { tls: false, credentials: false }), 'read ECONNRESET');
});

test('of an address only who asks for TLS looks for it in the certificate', () => {
  const wrong = withCode("Host: localhost. is not cert's CN", 'ERR_TLS_CERT_ALTNAME_INVALID');
  assert.match(
    refusalOf(wrong, { tls: false, credentials: false }),
    /, or for an address, which wants tls:\/\/ there: Host/,
  );
  assert.doesNotMatch(refusalOf(wrong, { tls: true, credentials: false }), /tls:/);
});
