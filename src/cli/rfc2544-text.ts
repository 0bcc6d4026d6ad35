/** What a measurement came to, for people: a line for each frame size and question. */
import type { Rfc2544Result, Rfc2544Size } from '../lab/job/measure.ts';

export function rfc2544Text({ sizes, trials }: Rfc2544Result): string[] {
  return [`rfc2544, ${trials} trials`, ...sizes.flatMap(linesOf)];
}

function linesOf(size: Rfc2544Size): string[] {
  const { frameSize, maxFramesPerSecond, throughput, latency, loss, backToBack, recovery, reset } = size;
  const of = frameSize === null ? 'frames of the traffic' : `${frameSize} bytes`;
  const lines = [`  ${of}, at most ${rate(maxFramesPerSecond)}`];
  if (throughput !== undefined) {
    const { framesPerSecond, frameBitsPerSecond, lossRatio } = throughput;
    const lost = lossRatio === 0 ? '' : `, ${share(lossRatio)} lost`;
    lines.push(`    throughput ${rate(framesPerSecond)}, ${digits(frameBitsPerSecond / 1e9)} Gbit/s${lost}`);
  }
  for (const at of latency ?? [])
    lines.push(
      `    latency at ${share(at.share)} of it: mean ${us(at.meanSeconds)}, p50 ${us(at.p50Seconds)}, p99 ${us(at.p99Seconds)}, max ${us(at.maxSeconds)}`,
    );
  for (const at of loss ?? []) lines.push(`    loss at ${share(at.share)} of the highest rate: ${share(at.lossRatio)}`);
  if (backToBack !== undefined)
    lines.push(`    back to back ${backToBack.atLeast ? 'at least ' : ''}${backToBack.frames} frames`);
  if (recovery) {
    const { overloadFramesPerSecond, overloadLossRatio, seconds, lostAfterwards } = recovery;
    const until =
      seconds === null
        ? 'losses until the end'
        : `last loss ${us(seconds)} after it was halved, ${lostAfterwards} lost`;
    lines.push(`    recovery from ${rate(overloadFramesPerSecond)}, ${share(overloadLossRatio)} lost: ${until}`);
  }
  if (reset) {
    const { seconds, lostFrames } = reset;
    lines.push(`    reset: ${seconds === null ? 'no frame came back' : us(seconds)}, ${lostFrames} frames lost`);
  }
  return lines;
}

const digits = (value: number): string => String(Number(value.toPrecision(4)));
const rate = (framesPerSecond: number): string => `${digits(framesPerSecond / 1e6)} Mframes/s`;
const share = (ratio: number): string => `${digits(ratio * 100)} %`;
const us = (seconds: number): string => `${digits(seconds * 1e6)} us`;
