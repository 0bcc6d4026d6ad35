/** Where NATS servers are, as people write it. Apart from what talks to them: the settings of a server that needs none are read, too. */
export class BadNatsUrl extends Error {}

export interface NatsAddress {
  readonly servers: readonly string[];
  readonly tls: boolean;
  readonly user: string | null;
  readonly password: string | null;
}

/** `nats://[user:password@]host[:port]`, `tls://…` for TLS; several servers of a cluster with commas. */
export function natsAddress(text: string): NatsAddress {
  const urls = text.split(',').map((part) => urlOf(part.trim()));
  const [first] = urls;
  if (first === undefined || urls.some(({ protocol }) => protocol !== first.protocol)) throw badUrl();
  const credentials = urls.find(({ username }) => username !== '') ?? first;
  const part = (value: string): string | null => (value === '' ? null : decodeURIComponent(value));
  return {
    servers: urls.map(({ hostname, port }) => `${hostname}:${port === '' ? '4222' : port}`),
    tls: first.protocol === 'tls:',
    user: part(credentials.username),
    password: part(credentials.password),
  };
}
function urlOf(text: string): URL {
  let url: URL;
  try {
    url = new URL(text.includes('://') ? text : `nats://${text}`);
    decodeURIComponent(url.username + url.password);
  } catch {
    throw badUrl();
  }
  const bare = /^\/?$/.test(url.pathname) && url.search === '' && url.hash === '';
  if (!['nats:', 'tls:'].includes(url.protocol) || url.hostname === '' || !bare) throw badUrl();
  return url;
}
/** Without the text: it may hold a password. */
function badUrl(): BadNatsUrl {
  return new BadNatsUrl('expected nats://[user:password@]host[:port] or tls://…, several with commas');
}
