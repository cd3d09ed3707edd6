/** What `init` asks on a terminal when flags do not say it. */

import { createInterface } from 'node:readline/promises';
import { LitestreamError, hasCode, messageOf } from '../../base/errors.ts';
import { type Answers, PROVIDERS, type Provider, type Question, providerOf } from './providers.ts';

/** Resolves with the line that the user gives, without its end; empty when there is nobody to answer any more. */
export type Ask = (question: string) => Promise<string>;

const WORDING: Readonly<Record<Question, string>> = {
  'account-id': 'Account ID',
  region: 'Region',
  endpoint: 'Endpoint',
};

/** Asks on the terminal, beside standard output, which may go to a file. Undefined without a terminal. */
export function terminal(): { readonly ask: Ask; close(): void } | undefined {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  return { ask: (question) => Promise.race([lines.question(question), ended]), close: () => lines.close() };
}

/** The provider of the flag, else of the user's answer, else Amazon S3. Rejects with 'usage'. */
export async function chooseProvider(flag: string | undefined, ask: Ask | undefined): Promise<Provider> {
  if (flag !== undefined) return providerOf(flag);
  if (ask === undefined) return providerOf('aws');
  const list = PROVIDERS.map(({ name, title }) => `  ${name.padEnd(9)} ${title}\n`).join('');
  return await untilRight(ask, `Where do backups go?\n${list}Provider [aws]: `, (answer) =>
    providerOf(answer === '' ? 'aws' : answer),
  );
}

/**
 * Completes `answers` with what `provider` needs: asks for it, or rejects with 'usage' and the flag that is missing.
 * Answers that make no sense are asked for again, or refused.
 */
export async function completeAnswers(
  provider: Provider,
  answers: Answers,
  ask: Ask | undefined,
): Promise<Answers> {
  let complete = answers;
  for (const need of provider.needs) {
    if (complete[need] !== undefined || complete.endpoint !== undefined) continue;
    if (ask === undefined) {
      throw new LitestreamError(
        'usage',
        `-${need} required for ${provider.name}: ${exampleOf(provider, need)}`,
      );
    }
    const known = complete;
    const question = `${WORDING[need]} (${exampleOf(provider, need)}): `;
    complete = await untilRight(ask, question, (answer) => {
      if (answer === '') throw new LitestreamError('usage', `-${need} required for ${provider.name}`);
      return checked(provider, { ...known, [need]: answer });
    });
  }
  if (ask !== undefined && complete.bucket === undefined && namesBucket(provider, complete)) {
    const bucket = await ask('Bucket (empty: from LITESTREAM_REPLICA_BUCKET): ');
    if (bucket.trim() !== '') complete = { ...complete, bucket: bucket.trim() };
  }
  return checked(provider, complete);
}

function exampleOf({ examples }: Provider, need: Question): string {
  return `such as ${examples[need] ?? ''}`;
}

function namesBucket(provider: Provider, answers: Answers): boolean {
  return provider.replica(answers, '').some(([key]) => key === 'bucket');
}

/** Throws 'usage' when the provider cannot make a replica of the answers. */
function checked(provider: Provider, answers: Answers): Answers {
  provider.replica(answers, '');
  return answers;
}

/** Asks until `read` takes the answer; when nobody answers any more, its error counts. */
async function untilRight<T>(ask: Ask, question: string, read: (answer: string) => T): Promise<T> {
  let next = question;
  for (let tries = 0; ; tries++) {
    const answer = (await ask(next)).trim();
    try {
      return read(answer);
    } catch (error) {
      if (!hasCode(error, 'usage') || tries === 2) throw error;
      next = `${messageOf(error)}\n${question}`;
    }
  }
}
