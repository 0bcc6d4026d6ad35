/** Why there is no connection to a NATS server, in words that say which setting to look at. */
import { AuthorizationError, UserAuthenticationExpiredError } from '@nats-io/transport-node';
import { NATS_VARIABLES } from './nats-files.ts';

/** What the connection was tried with. */
export interface Tried {
  readonly tls: boolean;
  /** A user, a token or a file of credentials. */
  readonly credentials: boolean;
}

/** Codes of Node.js and OpenSSL: nobody that is trusted has signed the certificate. */
const UNKNOWN_AUTHORITY: ReadonlySet<string> = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
]);
/** Alerts with which a server refuses a client's certificate, or that there is none. RFC 8446 §6.2. */
const CERTIFICATE_ALERT =
  /ALERT_(BAD_CERTIFICATE|CERTIFICATE_(REQUIRED|UNKNOWN|EXPIRED|REVOKED)|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE)|ALERT_HANDSHAKE_FAILURE/;

/** One line; what the library said stays in it. */
export function refusalOf(error: unknown, { tls, credentials }: Tried): string {
  const text = (error instanceof Error ? error.message : String(error)).trim();
  const code = codeOf(error);
  if (error instanceof UserAuthenticationExpiredError) return `the credentials have expired (${text})`;
  if (error instanceof AuthorizationError)
    return credentials
      ? `the server refuses the credentials of RINGSIDE_NATS_URL or ${NATS_VARIABLES.creds} (${text})`
      : `the server wants credentials: a user or token in RINGSIDE_NATS_URL, or ${NATS_VARIABLES.creds} (${text})`;
  if (UNKNOWN_AUTHORITY.has(code))
    return `the server's certificate is of no authority that is known here: ${NATS_VARIABLES.ca} names the file with its CA (${code})`;
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return `the server's certificate is not valid now (${code})`;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    // Without a wish for TLS the certificate of an address is looked at by the client alone, which takes it for that of `localhost`.
    return `the server's certificate is for another name than RINGSIDE_NATS_URL has${tls ? '' : ', or for an address, which wants tls:// there'}: ${text}`;
  if (CERTIFICATE_ALERT.test(code))
    return `the server refuses our certificate, or wants one: ${NATS_VARIABLES.cert} and ${NATS_VARIABLES.key} (${code})`;
  // What was sent meanwhile may have the connection reset before the alert is read.
  if (tls && /ECONNRESET|EPIPE/.test(`${code} ${text}`))
    return `the server has ended the connection, perhaps because it refuses our certificate, or wants one: ${NATS_VARIABLES.cert} and ${NATS_VARIABLES.key} (${text})`;
  if (text === "server does not support 'tls'")
    return tls ? 'the server speaks no TLS, and RINGSIDE_NATS_URL or the files that are set ask for it' : text;
  return text;
}

function codeOf(error: unknown): string {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : '';
  return typeof code === 'string' ? code : '';
}
