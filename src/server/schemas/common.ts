/** Path and query parameters that several resources share, and the problem document. */
import { Type } from 'typebox';
import { PROBLEMS, type ProblemCode } from '../problem-codes.ts';
import { closed, name, oneOf, ref, withDefaults } from './reference.ts';

export const NAME = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
export const NAME_FORM = 'At most 63 lower-case letters, digits and hyphens; no hyphen first or last.';
/** Names in paths are only looked up: longer or stranger ones are simply not found. */
const part = (description: string, example: string) =>
  Type.String({ minLength: 1, maxLength: 200, description, examples: [example] });

export const TopologyName = Type.String({
  pattern: NAME,
  description: 'Name of the topology: lower-case letters, digits and hyphens.',
  examples: ['t1'],
});
export const TopologyPath = closed({ topology: TopologyName });
export const GuestNicPath = closed({
  topology: TopologyName,
  guest: part('Guest, `host/guest` escaped as `host%2Fguest` where there are several hosts.', 'a'),
  nic: part('NIC of the guest.', 'net0'),
});
export const QueuePath = closed({ ...GuestNicPath.properties, queue: part('Queue of the NIC.', 'tx0') });
export const GuestPath = closed({ topology: TopologyName, guest: GuestNicPath.properties.guest });
export const BridgePath = closed({
  topology: TopologyName,
  bridge: part('Bridge, `host/bridge` escaped as `host%2Fbridge` where there are several hosts.', 'br0'),
});
export const BridgePortPath = closed({ ...BridgePath.properties, port: part('Port of the bridge.', 'p1') });
export const HostPath = closed({ topology: TopologyName, host: part('Host.', 'h1') });
export const RunPath = closed({ topology: TopologyName, run: part('Id of the run.', 'run-1') });
export const FramePath = closed({
  topology: TopologyName,
  frame: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Id of the frame.', examples: [1] }),
});
export const CapturePath = closed({ topology: TopologyName, capture: part('Id of the capture.', 'capture-1') });
export const CaptureFilePath = closed({
  ...CapturePath.properties,
  file: part('File of the capture.', '00001.pcapng'),
});
export const CaptureFramePath = closed({ ...CapturePath.properties, frame: FramePath.properties.frame });
export const PresetPath = closed({ preset: part('Name of the preset.', 'vhost-net') });

export const PageQuery = withDefaults(
  closed({
    limit: Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 100,
      description: 'Most items to answer.',
      examples: [100],
    }),
    cursor: Type.Optional(
      Type.String({ maxLength: 400, description: '`next` of the page before.', examples: ['dDE'] }),
    ),
  }),
);

export const Fault = name(
  closed(
    {
      pointer: Type.String({
        description: 'JSON Pointer into the body; for a parameter its place and name, as `querystring/limit`.',
        examples: ['/hosts/0/guests/0/memory'],
      }),
      detail: Type.String({ examples: ['"16MB" has an unknown unit, MB'] }),
      expected: Type.Optional(Type.String({ examples: ['a size such as "16MiB"'] })),
      code: Type.Optional(Type.String({ description: 'Kind of fault, for programs.', examples: ['bad-size'] })),
      line: Type.Optional(Type.Integer({ description: 'Line of a text that could not be read.', examples: [3] })),
      column: Type.Optional(Type.Integer({ description: 'Column of it.', examples: [7] })),
    },
    { $id: 'Fault', description: 'One fault of a request.' },
  ),
);

export const ProblemSchema = name(
  closed(
    {
      type: Type.String({ format: 'uri-reference', examples: ['/docs/problems#RINGSIDE_E_VALIDATION'] }),
      title: Type.String({ examples: ['The body is not valid'] }),
      status: Type.Integer({ minimum: 400, maximum: 599, examples: [422] }),
      code: oneOf(Object.keys(PROBLEMS) as [ProblemCode, ...ProblemCode[]], {
        description: 'Stable; what programs test for.',
        examples: ['RINGSIDE_E_VALIDATION'],
      }),
      detail: Type.String({ examples: ['The topology document has 1 fault'] }),
      instance: Type.String({ format: 'uri-reference', examples: ['/v1/topologies/t1'] }),
      errors: Type.Optional(Type.Array(ref(Fault), { description: 'All faults that were found.' })),
      oldestFrame: Type.Optional(
        Type.Integer({ description: 'With RINGSIDE_E_GONE: oldest frame that is still held.', examples: [4711] }),
      ),
    },
    { $id: 'Problem', description: 'A problem document (RFC 9457).' },
  ),
);
