/** /v1/topologies/{t}/guests, what a guest's DPDK program has and does: memory, devices, lcores; statistics and filters of its ports. */
import { BODY, media, problems, WORLD } from '../responses.ts';
import { GuestNicPath, GuestPath, HostPath } from '../schemas/common.ts';
import { DpdkSchema, DriverChangeSchema, DriverStateSchema, HostDpdkSchema, NicXstatsSchema } from '../schemas/dpdk.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

const worlds = problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED');
const looks = problems(...WORLD);
const refusals = problems(...BODY, ...WORLD);

export function addDpdkRoutes(app: App, { registry }: Services): void {
  app.get(
    '/v1/topologies/:topology/hosts/:host/dpdk',
    {
      schema: {
        operationId: 'getHostDpdk',
        tags: ['bridges'],
        summary: 'Shows the hugepages of a host, and Open vSwitch with DPDK on it',
        params: HostPath,
        response: { 200: media('The host.', { 'application/json': ref(HostDpdkSchema) }), ...worlds },
      },
    },
    async (request) => {
      const { topology, host } = request.params;
      return await registry.get(topology).livingWorld().call('hostDpdk', { host });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/dpdk',
    {
      schema: {
        operationId: 'getGuestDpdk',
        tags: ['guests'],
        summary: 'Shows the DPDK program of a guest: hugepages, VFIO, mbufs, lcores',
        params: GuestPath,
        response: { 200: media('The program.', { 'application/json': ref(DpdkSchema) }), ...looks },
      },
    },
    async (request) => {
      const { topology, guest } = request.params;
      return await registry.get(topology).livingWorld().call('dpdk', { guest });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/xstats',
    {
      schema: {
        operationId: 'getNicXstats',
        tags: ['guests'],
        summary: 'Shows what DPDK has counted of a port',
        description:
          'rte_eth_xstats_get() of the virtio PMD: of all queues, of each, then what the driver adds, sizes and destinations. Lengths are without the frame check sequence.',
        params: GuestNicPath,
        response: { 200: media('The statistics.', { 'application/json': ref(NicXstatsSchema) }), ...looks },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      return await registry.get(topology).livingWorld().call('xstats', { guest, nic });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/driver',
    {
      schema: {
        operationId: 'getNicDriver',
        tags: ['guests'],
        summary: 'Shows what a DPDK program has set of its port',
        params: GuestNicPath,
        response: { 200: media('The port.', { 'application/json': ref(DriverStateSchema) }), ...looks },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      return await registry.get(topology).livingWorld().call('driver', { guest, nic, change: null });
    },
  );

  app.post(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/driver',
    {
      schema: {
        operationId: 'changeNicDriver',
        tags: ['guests'],
        summary: 'Has a DPDK program change receive modes, addresses and VLANs of its port',
        description:
          'The program makes the calls of lib/ethdev, and the PMD sends a command on the control queue for each: VIRTIO_NET_CTRL_RX, _MAC and _VLAN. A port starts promiscuous, as those of testpmd do. QEMU filters where its own data path has the frames; with vhost the state is kept, and nothing is filtered. 409 where another driver has the NIC, or the feature was not negotiated.',
        params: GuestNicPath,
        body: ref(DriverChangeSchema),
        response: { 200: media('The port.', { 'application/json': ref(DriverStateSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      const { macAddrs, ...rest } = request.body;
      const macs = macAddrs?.map((text) => text.split(':').map((byte) => Number.parseInt(byte, 16)));
      const change = { ...rest, ...(macs === undefined ? {} : { macAddrs: macs }) };
      return await registry.get(topology).livingWorld().call('driver', { guest, nic, change });
    },
  );
}
