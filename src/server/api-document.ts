/** The API document's frame: what is said about the API as a whole. The operations come from the routes. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import { VERSION } from './version.ts';

const TAGS: readonly (readonly [name: string, description: string])[] = [
  ['topologies', 'Topologies: documents that are booted into running worlds.'],
  ['clock', "A world's virtual time: run, pause, step."],
  ['guests', 'What drivers and devices have left in guest memory and registers.'],
  ['bridges', 'Open vSwitch as its own tools would show it.'],
  ['traffic', 'Generated traffic, raw frames and replays.'],
  ['experiments', 'Many runs of a template: every combination of what varies, repeated, summed up.'],
  ['faults', 'Things that break in a running topology, and are repaired.'],
  ['recording', 'What was recorded: journeys, captures, events.'],
  ['wireshark', 'What makes Wireshark read captures well.'],
  ['presets', 'Ready topology documents.'],
  ['server', 'The server itself: health, metrics, versions, costs.'],
];

export function documentOptions(): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Ringside',
        version: VERSION,
        summary: 'A live emulated virtualization host',
        description:
          'Hosts emulated virtualization hosts: virtio-net guests, the three backends, taps, Open vSwitch and NICs, and ' +
          'records every hop of every frame. Times named *virtual* are what the emulated host would have taken.\n\n' +
          'Errors are problem documents (RFC 9457) with a stable `code`. Lists are answered in pages: pass `next` as ' +
          '`cursor`. On loopback no credentials are needed; where the server was started with a token, everything but ' +
          '`/livez` and `/readyz` needs it. The messages of the event WebSocket are described in `/asyncapi.json` (AsyncAPI).',
        license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
      },
      servers: [{ url: '/', description: 'This server' }],
      tags: TAGS.map(([name, description]) => ({ name, description })),
      security: [{}, { token: [] }],
      components: {
        securitySchemes: {
          token: { type: 'http', scheme: 'bearer', description: 'The token that the server was started with.' },
        },
      },
    },
    // Without this, components are called def-0, def-1 …
    refResolver: {
      buildLocalReference: (json, _baseUri, _fragment, i) => (typeof json.$id === 'string' ? json.$id : `def-${i}`),
    },
  };
}
