// Every screen has a title of its own, so that tabs and screen readers tell them apart.
import { useEffect } from 'react'
import { useBrand } from '../brand/brand'

export function usePageTitle(title: string): void {
  const site = useBrand((brand) => brand.name)
  useEffect(() => {
    document.title = `${title} – ${site}`
  }, [title, site])
}
