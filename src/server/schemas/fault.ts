/** Faults that a client asks for: bodies and answers. */
import { Type } from 'typebox';
import { FAULT_KINDS } from '../../lab/faults/fault-types.ts';
import { DURATION_PATTERN, LATEST_SECONDS } from '../../lab/units.ts';
import { TopologyPath } from './common.ts';
import { closed, name, oneOf, orNull, pageOf } from './reference.ts';

export const FaultPath = closed({
  topology: TopologyPath.properties.topology,
  fault: Type.String({ minLength: 1, maxLength: 200, description: 'Id of the fault.', examples: ['fault-1'] }),
});

const kind = oneOf(FAULT_KINDS, {
  description:
    '`backend_crash`: the vhost-user back-end of the NIC dies, with its connection, and is started again. `link_down`: the cable of the NIC is pulled for a while. `lost_kick`: available buffer notifications of a queue do not reach the back-end. `lost_interrupt`: used buffer notifications of a queue do not reach the guest.',
  examples: ['backend_crash'],
});
const nic = Type.String({
  minLength: 1,
  maxLength: 200,
  description: 'The NIC, `guest/nic`; with `host/` in front where there are several hosts.',
  examples: ['a/net0'],
});
const duration = (description: string, example: string) =>
  Type.String({ pattern: DURATION_PATTERN, maxLength: 32, description, examples: [example] });

export const FaultRequest = name(
  closed(
    {
      kind,
      nic,
      at: Type.Optional(
        Type.Number({
          minimum: 0,
          maximum: LATEST_SECONDS,
          description:
            'Virtual time in seconds at which it strikes, or with `everyFrames` begins to count. Default: now.',
          examples: [0.005],
        }),
      ),
      everyFrames: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 1_000_000_000,
          description:
            '`backend_crash`: strikes whenever the port has carried so many frames, of both directions together: in the middle of the burst that holds the last one.',
          examples: [10000],
        }),
      ),
      times: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 1_000_000_000,
          description: 'With `everyFrames`: how often at most. Default: until the fault is deleted.',
          examples: [3],
        }),
      ),
      restartAfter: Type.Optional(
        orNull(duration('a duration such as "200us" or "1ms" (ns, us, ms, s)', '1ms'), {
          description:
            '`backend_crash`: the back-end is started again so long after it died, in virtual time; null: when the fault is deleted. Default 1ms. A back-end that connects does so at once; where QEMU connects, it tries every `reconnectMs`.',
          examples: ['1ms'],
        }),
      ),
      duration: Type.Optional(duration('`link_down`: how long. Default: until the fault is deleted.', '10ms')),
      queue: Type.Optional(
        Type.String({
          maxLength: 16,
          description: '`lost_kick`, `lost_interrupt`: the queue. Default: `tx0`, and `rx0`.',
          examples: ['tx0'],
        }),
      ),
      count: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 1_000_000_000,
          description: '`lost_kick`, `lost_interrupt`: how many notifications. Default 1.',
          examples: [1],
        }),
      ),
    },
    {
      $id: 'FaultRequest',
      description: 'A fault to come. Fields of other kinds are refused.',
      examples: [
        { kind: 'backend_crash', nic: 'a/net0' },
        { kind: 'backend_crash', nic: 'a/net0', everyFrames: 10000, restartAfter: '1ms' },
        { kind: 'link_down', nic: 'a/net0', at: 0.005, duration: '10ms' },
      ],
    },
  ),
);

const seconds = (description: string) =>
  orNull(Type.Number({ minimum: 0, description, examples: [0.002] }), { description, examples: [0.002] });
const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
export const FaultSchema = name(
  closed(
    {
      id: Type.String({ examples: ['fault-1'] }),
      kind,
      nic,
      at: seconds('As it was asked for; null: at once.'),
      everyFrames: orNull(whole('As it was asked for.', 10000), { examples: [null] }),
      times: orNull(whole('As it was asked for.', 3), { examples: [null] }),
      restartAfterSeconds: seconds('As it was asked for; null: when it is deleted, or not of this kind.'),
      durationSeconds: seconds('As it was asked for; null: until it is deleted, or not of this kind.'),
      queue: orNull(Type.String(), { description: 'Of notifications that are lost.', examples: [null] }),
      count: orNull(whole('How many notifications.', 1), { examples: [null] }),
      state: oneOf(['ARMED', 'ACTIVE', 'ENDED'], {
        description:
          '`ARMED`: it waits for its time, or for frames. `ACTIVE`: something is broken. `ENDED`: it does not strike any more, and all is as before, or `reason` says what is not.',
        examples: ['ENDED'],
      }),
      reason: orNull(Type.String(), { description: 'Why it ended otherwise than it was asked for.', examples: [null] }),
      strikes: whole('How often it struck.', 1),
      missed: whole('How often there was nothing to strike: the back-end was dead already, the link was down.'),
      dropped: whole('Frames that dead back-ends held (`vhost_user.backend_crash`).', 17),
      duplicated: whole(
        'Frames that were handed on, or held, and not marked used: sent again (`packet.duplicate`).',
        9,
      ),
      last: orNull(
        closed({
          beganAtSeconds: Type.Number({ minimum: 0, description: 'Virtual time.', examples: [0.002] }),
          noticedAtSeconds: seconds(
            'QEMU found its socket closed and took the link down, or pulled the cable; null: not yet.',
          ),
          restartedAtSeconds: seconds('The back-end was there again; null: not yet, or not of this kind.'),
          recoveredAtSeconds: seconds('Rings handed over, link up; null: not yet.'),
          dropped: whole('Of this strike.', 17),
          duplicated: whole('Of this strike.', 9),
        }),
        { description: 'The last strike; null: none yet.', examples: [null] },
      ),
    },
    { $id: 'FaultState', description: 'A fault of a running topology.' },
  ),
);
export const FaultPage = pageOf(FaultSchema, 'FaultStatePage');
