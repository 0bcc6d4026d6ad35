/** What the argument of an ioctl on /dev/net/tun says, by its names in linux include/uapi/linux/if_tun.h. */
import { viewOf } from '../wire/struct.ts';
import { ifNameOf, ifreq } from '../wire/tun.ts';
import * as T from './tun-ioctls.ts';

const IFREQS: ReadonlySet<number> = new Set([T.TUNSETIFF, T.TUNGETIFF, T.TUNSETQUEUE]);
const FLAGS: readonly (readonly [number, string])[] = Object.entries({
  IFF_TUN: T.IFF_TUN,
  IFF_TAP: T.IFF_TAP,
  IFF_NAPI: T.IFF_NAPI,
  IFF_NAPI_FRAGS: T.IFF_NAPI_FRAGS,
  IFF_MULTI_QUEUE: T.IFF_MULTI_QUEUE,
  IFF_ATTACH_QUEUE: T.IFF_ATTACH_QUEUE,
  IFF_DETACH_QUEUE: T.IFF_DETACH_QUEUE,
  IFF_PERSIST: T.IFF_PERSIST,
  IFF_NO_PI: T.IFF_NO_PI,
  IFF_ONE_QUEUE: T.IFF_ONE_QUEUE,
  IFF_VNET_HDR: T.IFF_VNET_HDR,
  IFF_TUN_EXCL: T.IFF_TUN_EXCL,
}).map(([name, bit]) => [bit, name]);

/** Names of the bits of `ifr_flags`. */
export const ifFlagNames = (flags: number): string =>
  FLAGS.filter(([bit]) => (flags & bit) !== 0)
    .map(([, name]) => name)
    .join(' ');

/** Empty for bytes that are not whole. */
export function describeTunIoctl(request: number, argument: Uint8Array): Readonly<Record<string, number | string>> {
  const m = viewOf(argument);
  if (IFREQS.has(request)) {
    if (argument.length < ifreq.SIZE) return {};
    const flags = ifFlagNames(ifreq.ifr_flags.get(m, 0));
    const name = ifNameOf(argument);
    return name === '' ? { ifr_flags: flags } : { ifr_name: name, ifr_flags: flags };
  }
  if (argument.length < 4) return {};
  if (request === T.TUNGETFEATURES) return { features: ifFlagNames(m.getUint32(0, true)) };
  return { value: m.getInt32(0, true) };
}
