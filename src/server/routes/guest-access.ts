/**
 * /v1/topologies/{t}/guests, where a client acts as the guest: it writes memory, accesses registers of a virtio device and
 * notifies it. Whether the topology allows it is for the engine to say. And what a host does to a NIC while its guest runs.
 */
import { invalid, Problem } from '../problem.ts';
import { BODY, media, problems, WORLD } from '../responses.ts';
import { GuestNicPath, GuestPath, QueuePath } from '../schemas/common.ts';
import {
  MemoryWriteQuery,
  NotificationSchema,
  RegisterAccessSchema,
  RegisterValueSchema,
} from '../schemas/guest-access.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

const OCTETS = 'application/octet-stream';
const refusals = problems(...BODY, ...WORLD, 'RINGSIDE_E_FORBIDDEN');
const answer = media('What was read, or written.', { 'application/json': ref(RegisterValueSchema) });

/** Bodies of octets: in a scope of its own. */
export function addGuestMemoryRoute(app: App, { registry, settings }: Services): void {
  const bodyLimit = settings.limits.memoryRead;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(OCTETS, { parseAs: 'buffer', bodyLimit }, (_request, body, done) => done(null, body));

  app.put(
    '/v1/topologies/:topology/guests/:guest/memory',
    {
      bodyLimit,
      schema: {
        operationId: 'writeGuestMemory',
        tags: ['guests'],
        summary: 'Writes guest memory, in topologies with `debug`',
        params: GuestPath,
        querystring: MemoryWriteQuery,
        body: { content: { [OCTETS]: { schema: {} } } },
        response: { 204: { description: 'The bytes are in memory.' }, ...refusals },
      },
    },
    async (request, reply) => {
      const { topology, guest } = request.params;
      const body: unknown = request.body;
      const world = registry.get(topology).livingWorld();
      if (!Buffer.isBuffer(body)) throw invalid('', 'there is no body', 'the bytes to be written');
      const { length } = request.query;
      if (length !== undefined && length !== body.length) {
        const detail = `the body has ${body.length} bytes, not ${length}`;
        throw new Problem('RINGSIDE_E_REQUEST', detail, { errors: [{ pointer: 'querystring/length', detail }] });
      }
      // a copy of its own: Node's buffers share memory
      const bytes = new Uint8Array(body);
      await world.call('writeMemory', { guest, address: Number(request.query.address), bytes }, [bytes.buffer]);
      return reply.code(204).send();
    },
  );
}

export function addGuestAccessRoutes(app: App, { registry }: Services): void {
  app.post(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/registers',
    {
      schema: {
        operationId: 'accessRegisters',
        tags: ['guests'],
        summary: 'Reads or writes a register of a virtio device, as a driver does',
        description:
          'Writes, and reads that change something (the ISR), are for topologies with `debug`. A write lands at the virtual time that it is; a world that runs goes on with what it woke.',
        params: GuestNicPath,
        body: ref(RegisterAccessSchema),
        response: { 200: answer, ...refusals },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      const { region, offset, width, value } = request.body;
      const access = { region, offset, width, value: value ?? null };
      return await registry.get(topology).livingWorld().call('registers', { guest, nic, access });
    },
  );

  app.post(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/announce',
    {
      schema: {
        operationId: 'announceNic',
        tags: ['guests'],
        summary: 'The device asks its driver to announce where the guest is',
        description:
          'VIRTIO_NET_S_ANNOUNCE and a configuration interrupt: the driver sends gratuitous ARP and unsolicited neighbour advertisements, then VIRTIO_NET_CTRL_ANNOUNCE_ACK (virtio 1.2 §5.1.6.5.4). What QEMU does after a migration. For a driver without VIRTIO_NET_F_GUEST_ANNOUNCE a RARP is sent in its name: by QEMU through the tap, or by the vhost-user back-end (SEND_RARP).',
        params: GuestNicPath,
        response: {
          204: { description: 'The device has asked.' },
          ...problems(...WORLD),
        },
      },
    },
    async (request, reply) => {
      const { topology, guest, nic } = request.params;
      await registry.get(topology).livingWorld().call('announce', { guest, nic });
      return reply.code(204).send();
    },
  );

  app.post(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/queues/:queue/notify',
    {
      schema: {
        operationId: 'notifyQueue',
        tags: ['guests'],
        summary: 'Writes the notify register of a queue, in topologies with `debug`',
        description: 'The queue by name (`rx0`, `tx0`, `ctrl`) or by index.',
        params: QueuePath,
        body: ref(NotificationSchema),
        response: { 200: answer, ...refusals },
      },
      preValidation: (request, _reply, done) => {
        // no body says the same as one without a value
        request.body ??= {};
        done();
      },
    },
    async (request) => {
      const { topology, guest, nic, queue } = request.params;
      const { value } = request.body;
      return await registry
        .get(topology)
        .livingWorld()
        .call('notify', { guest, nic, queue, value: value ?? null });
    },
  );
}
