// The demo's application: a shop that takes orders, one transaction each, until its parent tells it to pause.
// Messages from the parent: { run: N } makes N orders; answers { orders } with the number of orders there are.
import BetterSqlite3 from 'better-sqlite3';

const database = new BetterSqlite3(process.argv[2] ?? '', { timeout: 5000 });
database.pragma('journal_mode = WAL');
database.exec(`
  CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER, placed_at TEXT);
  CREATE TABLE IF NOT EXISTS totals (customer TEXT PRIMARY KEY, orders INTEGER, cents INTEGER);
`);
const insertOrder = database.prepare('INSERT INTO orders (customer, cents, placed_at) VALUES (?, ?, ?)');
const addToTotal = database.prepare(`
  INSERT INTO totals VALUES (?, 1, ?)
  ON CONFLICT (customer) DO UPDATE SET orders = orders + 1, cents = cents + excluded.cents
`);
const placeOrder = database.transaction(() => {
  const customer = `customer ${Math.floor(Math.random() * 500)}`;
  const cents = Math.ceil(Math.random() * 10_000);
  insertOrder.run(customer, cents, new Date().toISOString());
  addToTotal.run(customer, cents);
});

process.on('message', async (/** @type {{ run: number }} */ { run }) => {
  for (let i = 0; i < run; i++) {
    placeOrder();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  process.send?.({ orders: database.prepare('SELECT count(*) FROM orders').pluck().get() });
});
process.on('disconnect', () => process.exit(0));
