/** What has changed predictions since the first run, which the list of scenarios preceded: corrections and mechanisms, no values that were turned. */
export interface Change {
  readonly what: string;
  readonly why: string;
  /** Scores after it. */
  readonly points: string;
  readonly ratios: string;
}

export const FIRST = { points: '18 of 25', ratios: '1 of 5', shapes: '6 of 8' } as const;

export const HISTORY: readonly Change[] = [
  {
    what: '`ovs_kernel_per_packet` 440 ns, not 700',
    why: "700 ns are a frame's whole way from port to port in its source, the NIC's receive included, which is charged as `napi_rx_per_packet` (260 ns) beside it. Found in the sources before the first run",
    points: '19 of 25',
    ratios: '1 of 5',
  },
  {
    what: 'floods of 50 ms (of vhost-net 200 ms) and TCP of 100 ms, not 20 ms each',
    why: 'turns of a vhost worker last 5 ms, and slow start takes its time; RFC 2544 trials are judged by their second half',
    points: '19 of 25',
    ratios: '1 of 5',
  },
  {
    what: 'TCP with congestion control, and applications that read what arrives (`guest_recvmsg`, copies)',
    why: 'they were missing',
    points: '19 of 25',
    ratios: '1 of 5',
  },
  {
    what: '`vhost_net_further_chain`: each further receive buffer of a frame',
    why: "vhost reads the rings for each buffer, not for each frame; what that takes is published as a share of a frame's cost",
    points: '20 of 25',
    ratios: '1 of 5',
  },
  {
    what: '`l2_miss`, `l2_cache`: entries of the exact match cache that a core has lost',
    why: 'a thousand flows cost what one did; sizes and latencies of caches are published, the lines of an entry follow from its layout',
    points: '21 of 25',
    ratios: '2 of 5',
  },
];
