/** /v1/topologies/{t}/guests: NICs, their queues, and guest memory. */
import type { Guest, Host, Topology } from '../../lab/topology.ts';
import type { HostedTopology } from '../hosted-topology.ts';
import { negotiate } from '../negotiation.ts';
import { pageOfList } from '../pages.ts';
import { notFound, Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { GuestNicPath, GuestPath, PageQuery, QueuePath, TopologyPath } from '../schemas/common.ts';
import { ControlPlaneQuery, ControlPlaneSchema } from '../schemas/control-plane.ts';
import { GuestNicSchema, GuestPage, GuestSchema, MemoryQuery, MemorySchema, QueueSchema } from '../schemas/guest.ts';
import { KvmSchema } from '../schemas/kvm.ts';
import { ref } from '../schemas/reference.ts';
import { TranslateQuery, TranslationSchema } from '../schemas/translation.ts';
import type { App, Services } from '../services.ts';

const refusals = problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED');

export function addGuestRoutes(app: App, { registry, settings }: Services): void {
  app.get(
    '/v1/topologies/:topology/guests',
    {
      schema: {
        operationId: 'listGuests',
        tags: ['guests'],
        summary: 'Lists the guests and their NICs',
        params: TopologyPath,
        querystring: PageQuery,
        response: { 200: media('A page of guests.', { 'application/json': ref(GuestPage) }), ...refusals },
      },
    },
    async (request) => pageOfList(guestsOf(registry.get(request.params.topology)), request.query),
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest',
    {
      schema: {
        operationId: 'getGuest',
        tags: ['guests'],
        summary: 'Shows a guest',
        params: GuestPath,
        response: { 200: media('The guest.', { 'application/json': ref(GuestSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest } = request.params;
      const hosted = registry.get(topology);
      const all = guestsOf(hosted);
      const found = all.filter((g) => g.name === guest || `${g.host}/${g.name}` === guest);
      if (found.length !== 1 || found[0] === undefined)
        throw notFound(`Topology '${topology}' has no guest '${guest}'`);
      return found[0];
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/kvm',
    {
      schema: {
        operationId: 'getGuestKvm',
        tags: ['guests'],
        summary:
          'Shows what KVM knows of a guest: exits by reason and by who handled them, memory slots, ioeventfds, irqfds, interrupt routes',
        params: GuestPath,
        response: { 200: media('KVM.', { 'application/json': ref(KvmSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest } = request.params;
      return await registry.get(topology).livingWorld().call('kvm', { guest });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/control-plane',
    {
      schema: {
        operationId: 'getGuestControlPlane',
        tags: ['guests'],
        summary: 'Shows how a guest was set up and its data plane handed over, every call with its decoded fields',
        description:
          'From the recorded events: ioctls on /dev/kvm and its descriptors, on taps, vhost and VFIO; vhost-user messages on both channels; phases of the VMM; register writes of the driver that matter. What the recorder no longer holds is left out.',
        params: GuestPath,
        querystring: ControlPlaneQuery,
        response: { 200: media('Steps, oldest first.', { 'application/json': ref(ControlPlaneSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest } = request.params;
      const { query } = request;
      return await registry.get(topology).livingWorld().call('controlPlane', { guest, query });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/nics/:nic',
    {
      schema: {
        operationId: 'getGuestNic',
        tags: ['guests'],
        summary: 'Shows a virtio-net device: status, features, configuration space, queues, counters',
        params: GuestNicPath,
        response: { 200: media('The device.', { 'application/json': ref(GuestNicSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      return await registry.get(topology).livingWorld().call('nic', { guest, nic });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/queues/:queue',
    {
      schema: {
        operationId: 'getQueue',
        tags: ['guests'],
        summary: 'Shows a virtqueue as it stands in guest memory',
        params: QueuePath,
        response: { 200: media('The queue.', { 'application/json': ref(QueueSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest, nic, queue } = request.params;
      return await registry.get(topology).livingWorld().call('queue', { guest, nic, queue });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/translate',
    {
      schema: {
        operationId: 'translateAddress',
        tags: ['guests'],
        summary: 'Follows an address of the device to guest memory, to QEMU, and to the back-end',
        description:
          'Each step as it stands now: the entries of the vIOMMU’s tables, QEMU’s memory slot, the region that the back-end has mapped, and what the back-end’s IOTLB holds. An address that does not translate is a conflict that says why, and where the walk ended. Nothing is cached, asked for or counted.',
        params: GuestNicPath,
        querystring: TranslateQuery,
        response: {
          200: media('The translations.', { 'application/json': ref(TranslationSchema) }),
          ...problems('RINGSIDE_E_REQUEST', 'RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_CONFLICT', 'RINGSIDE_E_WORLD_FAILED'),
        },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      const iova = Number(request.query.iova);
      const write = request.query.access === 'write';
      return await registry.get(topology).livingWorld().call('translate', { guest, nic, iova, write });
    },
  );

  app.get(
    '/v1/topologies/:topology/guests/:guest/memory',
    {
      schema: {
        operationId: 'readGuestMemory',
        tags: ['guests'],
        summary: 'Reads guest memory',
        params: GuestPath,
        querystring: MemoryQuery,
        response: {
          200: media('The bytes, as hexadecimal in JSON or raw.', {
            'application/json': ref(MemorySchema),
            'application/octet-stream': {},
          }),
          ...problems(
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_NOT_ACCEPTABLE',
            'RINGSIDE_E_WORLD_FAILED',
            'RINGSIDE_E_VALIDATION',
          ),
        },
      },
    },
    async (request, reply) => {
      const { topology, guest } = request.params;
      const { length } = request.query;
      const address = Number(request.query.address);
      const type = negotiate(request, ['application/json', 'application/octet-stream']);
      if (length > settings.limits.memoryRead) {
        const detail = `at most ${settings.limits.memoryRead} bytes can be read at a time`;
        throw new Problem('RINGSIDE_E_REQUEST', detail, { errors: [{ pointer: 'querystring/length', detail }] });
      }
      const { bytes } = await registry.get(topology).livingWorld().call('memory', { guest, address, length });
      const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (type === 'application/octet-stream') return reply.type(type).send(view);
      const body = { guest, address: `0x${address.toString(16)}`, length: view.length, hex: view.toString('hex') };
      return reply.type(type).send(body);
    },
  );
}

function guestsOf(hosted: HostedTopology) {
  return allGuests(hosted.topology).map(({ host, guest }) => ({
    name: guest.name,
    host: host.name,
    vcpus: guest.vcpus,
    memoryBytes: guest.memory,
    app: guest.app,
    nics: guest.nics.map((nic) => ({
      guest: guest.name,
      nic: nic.name,
      backend: nic.backend,
      driver: nic.driver,
      mac: nic.mac.map((byte) => byte.toString(16).padStart(2, '0')).join(':'),
    })),
  }));
}

function allGuests(topology: Topology | null): { host: Host; guest: Guest }[] {
  return (topology?.hosts ?? []).flatMap((host) => host.guests.map((guest) => ({ host, guest })));
}
