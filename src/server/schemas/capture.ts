/** Captures: what a download holds, and what one that follows takes. */
import { Type } from 'typebox';
import { commaNames } from './comma-names.ts';
import { eventFilter } from './event-filter.ts';
import { closed, oneOf, withDefaults } from './reference.ts';

export const view = oneOf(['wire', 'journey', 'events'], {
  default: 'wire',
  description:
    '`wire`: frames as they enter a bridge. `journey`: every hop of every frame. `events`: every event as a packet of its ' +
    'own kind (link type USER0, dissected by `/v1/wireshark/ringside.lua`).',
  examples: ['journey'],
});
export const snaplen = Type.Integer({
  minimum: 0,
  maximum: 262144,
  description: 'Bytes kept of each frame; 0 = all.',
  examples: [128],
});
/** What a capture does where it is slower than the world. */
const slow = {
  description:
    '`drop`: what is overwritten before it was read is lost and counted. `block`: virtual time waits for this reader.',
  examples: ['drop'],
};
const following = {
  follow: Type.Boolean({
    default: false,
    description: 'Goes on with what is recorded from now on, until the client goes or a limit is reached.',
    examples: [false],
  }),
  slow: Type.Optional(oneOf(['drop', 'block'], { ...slow, description: `${slow.description} With \`follow\` only.` })),
  from: Type.Optional(
    oneOf(['now', 'start'], {
      description: 'Where a capture that follows begins: with what comes (`now`, the default), or what is held.',
      examples: ['now'],
    }),
  ),
  duration: Type.Optional(
    Type.String({
      pattern: '^[0-9]{1,6}(\\.[0-9]{1,3})?s?$',
      description: 'Wall time after which a capture that follows ends: seconds, such as `2.5s` or `2.5`.',
      examples: ['5s'],
    }),
  ),
  packets: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'Rows after which a capture that follows ends.',
      examples: [100],
    }),
  ),
};

export const CaptureQuery = withDefaults(
  closed({
    view,
    points: Type.Optional(
      commaNames('Hops to capture at: names, or patterns with `*`, comma-separated.', 'a/net0/tx0,br0/*'),
    ),
    snaplen: Type.Optional(snaplen),
    ...eventFilter,
    ...following,
  }),
);
