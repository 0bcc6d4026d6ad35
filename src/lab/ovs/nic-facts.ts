/** What the devices of NICs say of themselves: taps of the kernel, vhost-user sockets and NICs of DPDK, NICs of the kernel. */
import { VhostUserPort } from '../../machine/backend/vhost-user.ts';
import type { Port } from '../../machine/host/port.ts';
import { Tap } from '../../machine/host/tap.ts';
import type { HostSite, Site } from '../build/site.ts';
import { guestPortName, pciAddress, vhostSocket } from './initial-rows.ts';
import type { DeviceFacts } from './netdevs.ts';

const VHOST_USER_F_PROTOCOL_FEATURES = 30;
const ZERO_MAC = new Uint8Array(6);

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** Facts of the device behind a port that the lab has wired; `ifindex`: the next one of the host. */
export function factsOf(site: Site, hostSite: HostSite, port: Port, ifindex: number): DeviceFacts {
  if (port instanceof VhostUserPort) return vhostFacts(site, hostSite, port);
  const { host } = hostSite;
  const base = { setMac: null, linkUp: () => true, fullDuplex: true as boolean | null };
  if (port instanceof Tap) {
    const mac = tapMac(hostSite, port.name);
    return {
      ...base,
      mac: () => mac,
      speed: 10_000,
      ifindex,
      status: () => ({ driver_name: 'tun', driver_version: '1.6', firmware_version: '' }),
      dropPlaces: [port.tapPlace],
    };
  }
  const index = host.nics.findIndex((nic) => nic.name === port.name);
  const nic = host.nics[index]!;
  const hostIndex = site.topology.hosts.indexOf(host);
  const mac = Uint8Array.of(0x90, 0xe2, 0xba, 0, hostIndex, index);
  const speed = Math.round(nic.speed / 1e6);
  if (port.type !== 'dpdk')
    return {
      ...base,
      mac: () => mac,
      speed,
      ifindex,
      status: () => ({ driver_name: 'ixgbe', driver_version: '6.1.0', firmware_version: '0x800003df' }),
      dropPlaces: [],
    };
  const devargs = pciAddress(host, nic);
  return {
    ...base,
    mac: () => mac,
    speed,
    ifindex: 0,
    status: () => ({
      driver_name: 'net_ixgbe',
      if_type: '6',
      link_speed: `${speed / 1000}Gbps`,
      numa_id: '0',
      port_no: String(index),
      bus_info: `bus_name=pci, vendor_id=8086, device_id=10fb`,
    }),
    configure: ({ name, options }) =>
      options.get('dpdk-devargs') === devargs
        ? null
        : `Error attaching device '${options.get('dpdk-devargs') ?? ''}' to DPDK`.concat(
            options.has('dpdk-devargs') ? '' : `: '${name}' is missing dpdk-devargs`,
          ),
    dropPlaces: [],
  };
}

/** libvirt's tap of a guest: the guest's address with fe in front. */
function tapMac({ host }: HostSite, name: string): Uint8Array {
  for (const guest of host.guests)
    for (const nic of guest.nics)
      if (guestPortName(guest.name, nic.name) === name) return Uint8Array.of(0xfe, ...nic.mac.slice(1));
  return ZERO_MAC;
}

/** netdev_dpdk_vhost_user_get_status(), netdev_dpdk_vhost_client_get_status(). */
function vhostFacts(site: Site, { host }: HostSite, port: VhostUserPort): DeviceFacts {
  const client = port.type === 'dpdkvhostuserclient';
  const nicOf = () => {
    for (const guest of site.guests) {
      if (guest.host !== host) continue;
      for (const built of guest.nics)
        if (guestPortName(guest.document.name, built.document.name) === port.name) return { guest, built };
    }
    return null;
  };
  const connected = (): boolean => port.rxqs.some((rxq) => rxq.pair !== null);
  return {
    mac: () => ZERO_MAC,
    setMac: null,
    linkUp: connected,
    speed: 0,
    fullDuplex: null,
    ifindex: 0,
    status: () => {
      const socket = vhostSocket(port.name);
      const mode = client ? 'client' : 'server';
      if (!connected()) return { mode, socket, status: 'disconnected' };
      const built = nicOf()?.built;
      const device = built?.setup.states.find((state) => state.nic.wiring === built.wiring)?.nic.device;
      const { lo, hi } = device?.driverFeatures ?? { lo: 0, hi: 0 };
      const vrings = port.rxqs.flatMap((rxq, i) =>
        rxq.pair === null ? [] : [0, 1].map((n) => [`vring_${2 * i + n}_size`, String(built?.document.queueSize ?? 0)]),
      );
      return {
        mode,
        status: 'connected',
        socket,
        numa: '0',
        features: `0x${hex(hi >>> 0, 8)}${hex((lo | (1 << VHOST_USER_F_PROTOCOL_FEATURES)) >>> 0, 8)}`,
        num_of_vrings: String(vrings.length),
        ...Object.fromEntries(vrings),
      };
    },
    dropPlaces: [],
  };
}
