/**
 * /v1/topologies/{t}/guests, what a guest's QEMU is asked for: stop and go on, pull a cable. Each is done on QEMU's main loop,
 * in virtual time.
 */
import { BODY, media, problems, WORLD } from '../responses.ts';
import { GuestNicPath, GuestPath } from '../schemas/common.ts';
import { GuestNicSchema } from '../schemas/guest.ts';
import { GuestRunStateSchema, GuestStateSchema, LinkSchema, NicChangeSchema, NicLinkSchema } from '../schemas/qemu.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

const refusals = problems(...BODY, ...WORLD);

export function addQemuRoutes(app: App, { registry }: Services): void {
  app.put(
    '/v1/topologies/:topology/guests/:guest/state',
    {
      schema: {
        operationId: 'setGuestState',
        tags: ['guests'],
        summary: 'Stops a guest, or lets it go on',
        description:
          "QMP `stop` and `cont`. The vCPUs stop, then the back-ends of all NICs, each ring where it is: frames wait in tap queues as long as there is room, and are dropped at vhost-user ports. When the guest goes on, the rings are handed over where they stood (VHOST_SET_VRING_BASE), then the vCPUs run. Steps of QEMU's main loop, with events `qemu.*`.",
        params: GuestPath,
        body: ref(GuestStateSchema),
        response: { 200: media('The guest.', { 'application/json': ref(GuestRunStateSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest } = request.params;
      const { state } = request.body;
      return await registry.get(topology).livingWorld().call('guestState', { guest, state });
    },
  );

  app.patch(
    '/v1/topologies/:topology/guests/:guest/nics/:nic',
    {
      schema: {
        operationId: 'changeGuestNic',
        tags: ['guests'],
        summary: 'Gives a NIC another back-end, or another bridge, while its guest runs',
        description:
          "As a live migration to the same host: the guest stops with all its back-ends, the state of the device is saved, the old netdev goes (what waits there is dropped, `port.removed`), the new one is opened, the state is loaded, the rings are handed over where they stood, the guest goes on and is announced. Steps of QEMU's main loop in virtual time, with events `qemu.*`; `migration` says how long each took. 409 where the driver uses features that the new back-end does not offer, or where the datapath of the bridge does not go with it (vhost-user needs `netdev`). The document of the topology stays as it is: a world that is built anew begins with that.",
        params: GuestNicPath,
        body: ref(NicChangeSchema),
        response: { 200: media('The device.', { 'application/json': ref(GuestNicSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      const { backend, bridge } = request.body;
      return await registry.get(topology).livingWorld().call('patchNic', { guest, nic, backend, bridge });
    },
  );

  app.put(
    '/v1/topologies/:topology/guests/:guest/nics/:nic/link',
    {
      schema: {
        operationId: 'setNicLink',
        tags: ['guests'],
        summary: 'Pulls the cable of a NIC, or plugs it',
        description:
          'QMP `set_link`: VIRTIO_NET_S_LINK_UP in the configuration and an interrupt, then vhost stops or starts. While the link is down QEMU itself takes what comes from either side and drops it (`virtio_net.link_down`); a vhost-user port has no device meanwhile, and drops what comes for the guest.',
        params: GuestNicPath,
        body: ref(LinkSchema),
        response: { 200: media('The link.', { 'application/json': ref(NicLinkSchema) }), ...refusals },
      },
    },
    async (request) => {
      const { topology, guest, nic } = request.params;
      const { up } = request.body;
      return await registry.get(topology).livingWorld().call('link', { guest, nic, up });
    },
  );
}
