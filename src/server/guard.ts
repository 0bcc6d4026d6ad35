/**
 * Who may talk to the server, checked before anything else of a request (WebSocket upgrades included).
 *
 * On loopback there are no credentials, so a web page in the user's browser must not get through: the Host header has to
 * name this machine (against DNS rebinding) and an Origin header has to be the host itself (against cross-site requests).
 * With a token, everything but the two health endpoints needs `Authorization: Bearer`.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { FastifyRequest } from 'fastify';
import { Problem } from './problem.ts';
import { isLoopback, type Settings } from './settings.ts';

const OPEN_PATHS = new Set(['/livez', '/readyz']);

/** Whether the path is one of the health endpoints, which answer everybody and to the end. */
export function isOpen(url: string): boolean {
  return OPEN_PATHS.has(url.split('?', 1)[0] ?? '');
}

export class Guard {
  private readonly settings: Settings;
  private readonly tokenHash: Buffer | null;

  constructor(settings: Settings) {
    this.settings = settings;
    this.tokenHash = settings.token === null ? null : sha256(settings.token);
  }

  /** Throws the problem that a request is to be refused with. */
  check(request: FastifyRequest): void {
    this.checkHost(request.headers.host);
    checkOrigin(request.headers.origin, request.headers.host);
    this.checkToken(request);
  }

  private checkHost(header: string | undefined): void {
    const name = hostName(header);
    if (name !== null && this.allows(name)) return;
    throw new Problem(
      'RINGSIDE_E_HOST',
      `Host '${header ?? ''}' is not a name of this server; further names go into RINGSIDE_ALLOWED_HOSTS`,
    );
  }

  private allows(name: string): boolean {
    if (isLoopback(name) || this.settings.allowedHosts.includes(name)) return true;
    if (isLoopback(this.settings.host)) return false;
    // Reachable from outside, hence with a token: an address cannot be rebound, a name must be listed once any is.
    return isIP(name) !== 0 || name === this.settings.host.toLowerCase() || this.settings.allowedHosts.length === 0;
  }

  private checkToken(request: FastifyRequest): void {
    if (this.tokenHash === null || isOpen(request.url)) return;
    const match = /^Bearer +([^ ]+) *$/i.exec(request.headers.authorization ?? '');
    // Hashes have equal lengths, so the comparison tells nothing about the token.
    if (match?.[1] !== undefined && timingSafeEqual(sha256(match[1]), this.tokenHash)) return;
    const presented = request.headers.authorization !== undefined;
    throw new Problem(
      'RINGSIDE_E_UNAUTHORIZED',
      presented ? 'The token is not the one of this server' : 'Send Authorization: Bearer <token>',
      {
        headers: {
          'www-authenticate': presented ? 'Bearer realm="ringside", error="invalid_token"' : 'Bearer realm="ringside"',
        },
      },
    );
  }
}

function checkOrigin(origin: string | undefined, host: string | undefined): void {
  if (origin === undefined) return;
  let from: string | null = null;
  try {
    from = new URL(origin).host;
  } catch {
    // 'null' (sandboxed pages) and junk are other origins
  }
  if (from !== null && from !== '' && from === normalHost(origin, host)) return;
  throw new Problem('RINGSIDE_E_ORIGIN', `Origin '${origin}' is not this server`);
}

/** The Host header as URL parsing would print it under the origin's scheme (default port dropped). */
function normalHost(origin: string, host: string | undefined): string | null {
  try {
    return new URL(`${new URL(origin).protocol}//${host ?? ''}`).host;
  } catch {
    return null;
  }
}

/** Name part of a Host header, lower case, IPv6 without brackets; null where the header is missing or malformed. */
function hostName(header: string | undefined): string | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/i.exec(header ?? '');
  return (match?.[1] ?? match?.[2])?.toLowerCase().replace(/\.$/, '') ?? null;
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
