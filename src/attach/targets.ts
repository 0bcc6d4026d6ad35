/**
 * Open vSwitch's notation of where to connect to and where to listen (ovs-vswitchd.conf.db(5), ovsdb(7)): `tcp:HOST:PORT`,
 * `unix:PATH`, `ptcp:[PORT][:HOST]`, `punix:PATH`.
 */

/** A TCP endpoint; `host` '' where it says none, `port` null where it says none. Or a socket's path. */
export type Target =
  | { readonly kind: 'tcp'; readonly passive: boolean; readonly host: string; readonly port: number | null }
  | { readonly kind: 'unix'; readonly passive: boolean; readonly path: string };

/** A port number by its text; null: it is none. */
function portOf(text: string): number | null {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return port <= 65535 ? port : null;
}

/** Two texts around the last colon that is not inside brackets; brackets of an IPv6 address are taken off. */
function splitAddress(text: string): { readonly first: string; readonly rest: string | null } | null {
  const bracket = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bracket !== null) return { first: bracket[1]!, rest: bracket[2] ?? null };
  const parts = text.split(':');
  if (parts.length > 2) return null;
  return { first: parts[0]!, rest: parts[1] ?? null };
}

/**
 * Reads a target. Returns what is wrong with it as text: an unknown kind, a number that is no port, TLS, which is not there.
 */
export function parseTarget(text: string): Target | string {
  const colon = text.indexOf(':');
  const kind = colon < 0 ? text : text.slice(0, colon);
  const rest = colon < 0 ? '' : text.slice(colon + 1);
  switch (kind) {
    case 'unix':
    case 'punix':
      if (rest === '') return `${text}: expected a path`;
      return { kind: 'unix', passive: kind === 'punix', path: rest };
    case 'tcp': {
      const address = splitAddress(rest);
      if (address === null || address.first === '') return `${text}: bad peer name format`;
      const port = address.rest === null || address.rest === '' ? null : portOf(address.rest);
      if (port === null && address.rest !== null && address.rest !== '') return `${text}: bad port number`;
      return { kind: 'tcp', passive: false, host: address.first, port };
    }
    case 'ptcp': {
      const comma = rest.indexOf(':');
      const port = comma < 0 ? rest : rest.slice(0, comma);
      const address = splitAddress(comma < 0 ? '' : rest.slice(comma + 1));
      const number = port === '' ? null : portOf(port);
      if (number === null && port !== '') return `${text}: bad port number`;
      if (address === null || address.rest !== null) return `${text}: bad address`;
      return { kind: 'tcp', passive: true, host: address.first, port: number };
    }
    case 'ssl':
    case 'pssl':
      return 'Protocol not supported: there is no TLS';
    default:
      return 'Address family not supported by protocol';
  }
}

/** `[::1]` for an address with colons. */
const bracketed = (host: string): string => (host.includes(':') ? `[${host}]` : host);

export const tcpTarget = (host: string, port: number): string => `tcp:${bracketed(host)}:${port}`;
export const ptcpTarget = (host: string, port: number): string => `ptcp:${port}:${bracketed(host)}`;
