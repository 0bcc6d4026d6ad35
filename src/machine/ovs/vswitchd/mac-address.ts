/** Ethernet addresses of bridges, and numbers in texts of other_config (ovs lib/packets.c, vswitchd/bridge.c). */

const MAC = /^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$/;

export function parseMac(text: string | null | undefined): Uint8Array | null {
  if (text === null || text === undefined || !MAC.test(text)) return null;
  return Uint8Array.from(text.split(':').map((byte) => Number.parseInt(byte, 16)));
}
export function macToText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
export function macToNumber(mac: Uint8Array): bigint {
  return mac.reduce((n, byte) => (n << 8n) | BigInt(byte), 0n);
}
/** Of one interface, not locally administered, not reserved (eth_addr_is_reserved(), those of the standard at least). */
export function mayRepresent(mac: Uint8Array): boolean {
  const reserved = mac[0] === 0x01 && mac[1] === 0x80 && mac[2] === 0xc2;
  return (mac[0]! & 3) === 0 && !reserved && mac.some((byte) => byte !== 0);
}
export function compareMacs(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < 6; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}
/** The address of a bridge that nothing else gives one: of the UUID of its row (bridge_create()), which lies in words of this machine. */
export function macOfUuid(uuid: string): Uint8Array {
  const hex = uuid.replaceAll('-', '');
  const byte = (i: number): number => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  const mac = Uint8Array.of(byte(3), byte(2), byte(1), byte(0), byte(7), byte(6));
  mac[0] = (mac[0]! & ~1) | 2;
  return mac;
}

/** `other_config:datapath-id`: 16 hexadecimal digits that are not all zero, or 0x and up to 16 (dpid_from_string()). */
export function parseDatapathId(text: string | undefined): bigint | null {
  if (text === undefined || !/^([0-9a-fA-F]{16}|0[xX][0-9a-fA-F]{1,16})$/.test(text)) return null;
  const id = BigInt(/^0[xX]/.test(text) ? text : `0x${text}`);
  return id === 0n ? null : id;
}
/** A whole number in a text; `fallback` where there is none (smap_get_int()). */
export function integerIn(map: ReadonlyMap<string, string>, key: string, fallback: number): number {
  const text = map.get(key);
  return text !== undefined && /^\s*[+-]?\d+$/.test(text) ? Number(text) : fallback;
}
/** smap_get_bool(): anything but the other word is `fallback`. */
export function flagIn(map: ReadonlyMap<string, string>, key: string, fallback: boolean): boolean {
  const text = map.get(key)?.toLowerCase();
  return fallback ? text !== 'false' : text === 'true';
}
