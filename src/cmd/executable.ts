/** The command line of the executable that build-binary.mjs makes: `litestream`, and the programs that it starts of itself. */

import { PROGRAM_FLAG, type Program } from '../base/entry-point.ts';

const PROGRAMS: Record<Program, () => Promise<unknown>> = {
  'control/reader-program': async () => (await import('../control/reader-program.ts')).ended,
  'sqlite/integrity-program': () => import('../sqlite/integrity-program.ts'),
};

/** As main() of main.ts. A program finds its arguments where it finds them as a file. */
export async function main(args: readonly string[]): Promise<never> {
  const [first = ''] = args;
  if (!first.startsWith(PROGRAM_FLAG)) {
    const command = await import('./main.ts');
    return command.main(args);
  }
  process.argv.splice(2, 1);
  await PROGRAMS[first.slice(PROGRAM_FLAG.length) as Program]();
  process.exit(0);
}
