/** Frames for hashes and filters, made the plain way. */
const hex = (s: string): number[] => (s.match(/../g) ?? []).map((b) => Number.parseInt(b, 16));
export const ipv4Address = (s: string): number[] => s.split('.').map(Number);
export function ipv6Address(s: string): number[] {
  const [head, tail] = s.split('::') as [string, string?];
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').flatMap((g) => hex(g.padStart(4, '0')));
  const left = groups(head);
  const right = groups(tail ?? '');
  return [...left, ...new Array<number>(16 - left.length - right.length).fill(0), ...right];
}
const be16 = (n: number): number[] => [n >>> 8, n & 0xff];

export interface FrameOptions {
  readonly to?: readonly number[];
  readonly vlan?: number;
  /** Not a fragment by default. */
  readonly fragmentOffset?: number;
  /** IPv6 extension headers: type of each, and its bytes from the length byte on. */
  readonly extensions?: readonly (readonly [number, readonly number[]])[];
  readonly payload?: readonly number[];
}
const ETHERNET_TO = [2, 0, 0, 0, 0, 1];
export function ethernet(type: number, rest: readonly number[], o: FrameOptions = {}): Uint8Array {
  const tag = o.vlan === undefined ? [] : [0x81, 0, ...be16(o.vlan)];
  return Uint8Array.from([...(o.to ?? ETHERNET_TO), 2, 0, 0, 0, 0, 2, ...tag, ...be16(type), ...rest]);
}
export const ports = (from: number, to: number): number[] => [...be16(from), ...be16(to), 0, 0, 0, 0];
export function ipv4(
  from: string,
  to: string,
  protocol: number,
  rest: readonly number[],
  o: FrameOptions = {},
): number[] {
  const offset = o.fragmentOffset ?? 0;
  const total = 20 + rest.length;
  return [
    0x45,
    0,
    ...be16(total),
    0,
    1,
    ...be16(offset),
    64,
    protocol,
    0,
    0,
    ...ipv4Address(from),
    ...ipv4Address(to),
    ...rest,
  ];
}
export function ipv6(
  from: string,
  to: string,
  protocol: number,
  rest: readonly number[],
  o: FrameOptions = {},
): number[] {
  const chain = o.extensions ?? [];
  const types = [...chain.map(([type]) => type), protocol];
  const headers = chain.flatMap(([, bytes], i) => [types[i + 1]!, ...bytes]);
  const body = [...headers, ...rest];
  return [0x60, 0, 0, 0, ...be16(body.length), types[0]!, 64, ...ipv6Address(from), ...ipv6Address(to), ...body];
}
export const TCP = 6;
export const UDP = 17;
