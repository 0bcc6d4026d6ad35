/** Published ratios between back-ends: two points of one source, measured on one machine by one method. */

export interface Ratio {
  readonly id: string;
  /** Ids of the points whose quotient it is. */
  readonly of: readonly [string, string];
  readonly says: string;
}

export const RATIOS: readonly Ratio[] = [
  {
    id: 'p2p',
    of: ['sig21-f8a-d1000', 'sig21-f8a-k1'],
    says: 'wire to wire for each core: netdev datapath against kernel datapath',
  },
  {
    id: 'pvp-lossless',
    of: ['sig21-f8b-d1000', 'sig21-f8b-k1000'],
    says: 'wire to guest to wire without loss: vhost-user against vhost-net',
  },
  {
    id: 'pvp-overload',
    of: ['ovsperf-1000f-64', 'ovsperf-kernel-64'],
    says: 'wire to guest to wire with 10 Gb/s offered: vhost-user against vhost-net',
  },
  {
    id: 'udp-guests',
    of: ['cx5-od-pps', 'cx5-vn-pps'],
    says: 'small datagrams between Linux guests: vhost-user against vhost-net',
  },
  {
    id: 'latency-guests',
    of: ['cx5-vn-lat', 'cx5-od-lat'],
    says: 'latency between Linux guests: vhost-net against vhost-user',
  },
];
