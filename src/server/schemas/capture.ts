/** Captures: what a download holds. */
import { Type } from 'typebox';
import { commaNames } from './comma-names.ts';
import { closed, oneOf, withDefaults } from './reference.ts';

export const CaptureQuery = withDefaults(
  closed({
    view: oneOf(['wire', 'journey'], {
      default: 'wire',
      description: '`wire`: frames as they enter a bridge. `journey`: every hop of every frame.',
      examples: ['journey'],
    }),
    points: Type.Optional(
      commaNames('Hops to capture at: names, or patterns with `*`, comma-separated.', 'a/net0/tx0,br0/*'),
    ),
    snaplen: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 262144, description: 'Bytes kept of each frame; 0 = all.', examples: [128] }),
    ),
  }),
);
