/** The filter grammar of events (readers/events/event-filter.ts, docs/filters.md) as parameters: the same for streams, captures and journeys. */
import { Type } from 'typebox';
import { commaNames } from './comma-names.ts';

export const eventFilter = {
  events: Type.Optional(commaNames('Event names, `*` for any characters, a leading `!` takes out.', 'guest.*,dp.miss')),
  places: Type.Optional(commaNames('Place names, same rules.', 'a/*,br0')),
  contexts: Type.Optional(commaNames('Context names, same rules.', 'vhost-*')),
  role: Type.Optional(commaNames('born, cloned, delivered, consumed, dropped, replaced, none.', 'dropped')),
  frame: Type.Optional(Type.String({ maxLength: 40, description: 'A frame id, or a range.', examples: ['17-40'] })),
  time: Type.Optional(
    Type.String({
      maxLength: 80,
      description: 'A range of virtual time since the world began, both ends included; either may be left out.',
      examples: ['1ms-2.5ms'],
    }),
  ),
};
