/** IPv4 (RFC 791), ICMP echo (RFC 792) and UDP (RFC 768) headers; `at` is where the header starts, not the frame. */
import { be16, be32, struct, u8 } from './struct.ts';

export const ipv4 = struct({
  version_ihl: u8,
  tos: u8,
  total_length: be16,
  id: be16,
  frag: be16,
  ttl: u8,
  protocol: u8,
  checksum: be16,
  src: be32,
  dst: be32,
});
export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
/** version_ihl of a header without options. */
export const IPV4_VERSION_IHL = 0x45;
export const IP_DF = 0x4000;
export const IP_MF = 0x2000;
export const IP_OFFSET = 0x1fff;

export const icmp_echo = struct({ type: u8, code: u8, checksum: be16, id: be16, sequence: be16 });
export const ICMP_ECHOREPLY = 0;
export const ICMP_ECHO = 8;

export const udp = struct({ source: be16, dest: be16, len: be16, check: be16 });
export const tcp = struct({
  source: be16,
  dest: be16,
  seq: be32,
  ack_seq: be32,
  offset_flags: be16,
  window: be16,
  check: be16,
  urg_ptr: be16,
});
