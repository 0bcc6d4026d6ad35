/** What ovs-vswitchd writes into the rows of interfaces (iface_refresh_netdev_status(), iface_refresh_stats(), iface_clear_db_record()). */

import { OFPP_LOCAL } from '../flow/actions.ts';
import { formatMac } from '../flow/text/addresses.ts';
import type { Values } from '../ovsdb/database.ts';
import type { Interface } from './bridge-state.ts';

/** OpenFlow 1.0's number of the LOCAL port, which the column holds. */
const LOCAL = 65534;

/** Columns of an interface that is open. */
export function statusColumns({ netdev, ofport }: Interface): Values {
  const duplex = netdev.fullDuplex();
  const speed = netdev.linkSpeed();
  return {
    ofport: ofport === OFPP_LOCAL ? LOCAL : ofport,
    error: null,
    status: netdev.status(),
    admin_state: netdev.adminUp() ? 'up' : 'down',
    link_state: netdev.linkUp() ? 'up' : 'down',
    link_resets: netdev.linkResets(),
    duplex: duplex === null ? null : duplex ? 'full' : 'half',
    link_speed: speed === 0 ? null : speed * 1_000_000,
    mtu: netdev.mtu(),
    mac_in_use: formatMac(netdev.mac()),
    ifindex: netdev.ifindex(),
  };
}
export function statisticsOf({ netdev }: Interface): Values {
  const counters = netdev.counters();
  return {
    statistics: {
      rx_packets: counters.rxPackets,
      tx_packets: counters.txPackets,
      rx_bytes: counters.rxBytes,
      tx_bytes: counters.txBytes,
      rx_dropped: counters.rxDropped,
      tx_dropped: counters.txDropped,
      rx_errors: counters.rxErrors,
      tx_errors: counters.txErrors,
    },
  };
}
/** Of one that could not be opened. */
export function failedColumns(error: string): Values {
  return {
    ofport: -1,
    error,
    status: {},
    admin_state: null,
    duplex: null,
    link_speed: null,
    link_state: null,
    mac_in_use: null,
    mtu: null,
    statistics: {},
    ifindex: null,
  };
}
