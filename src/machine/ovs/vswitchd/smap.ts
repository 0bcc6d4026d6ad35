/** Texts of other_config as numbers and flags (ovs lib/smap.c). */

const INT_MAX = 2 ** 31 - 1;

/** A whole number, at most `most` to either side of zero; `fallback` where there is none (smap_get_int()). */
export function integerIn(
  map: ReadonlyMap<string, string>,
  key: string,
  fallback: number,
  most: number = INT_MAX,
): number {
  const text = map.get(key);
  if (text === undefined || !/^\s*[+-]?\d+$/.test(text)) return fallback;
  const value = Number(text);
  return Math.abs(value) <= most ? value : fallback;
}
/** smap_get_bool(): anything but the other word is `fallback`. */
export function flagIn(map: ReadonlyMap<string, string>, key: string, fallback: boolean): boolean {
  const text = map.get(key)?.toLowerCase();
  return fallback ? text !== 'false' : text === 'true';
}
/** `datapath-id`: 16 hexadecimal digits that are not all zero, or 0x and up to 16 (dpid_from_string()). */
export function parseDatapathId(text: string | undefined): bigint | null {
  if (text === undefined || !/^([0-9a-fA-F]{16}|0[xX][0-9a-fA-F]{1,16})$/.test(text)) return null;
  const id = BigInt(/^0[xX]/.test(text) ? text : `0x${text}`);
  return id === 0n ? null : id;
}
